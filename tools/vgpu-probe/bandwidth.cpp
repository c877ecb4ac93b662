// vgpu-probe bandwidth: bytes per second against the size of a copy, in both directions.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>

#include "ring/wait.h"
#include "tools/vgpu-probe/answer.h"
#include "tools/vgpu-probe/client.h"
#include "tools/vgpu-probe/measuring.h"
#include "tools/vgpu-probe/probe.h"
#include "tools/vgpu-probe/suite.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using nlohmann::ordered_json;
using protocol::Status;

constexpr uint64_t kLeastNs = 15'000'000;  // that a figure is measured for

// In the order of the columns.
enum Column : std::size_t {
  kPageableIn,
  kPageableOut,
  kPinnedIn,
  kPinnedOut,
  kStore,
  kLoad,
  kMemcpy,
  kColumns
};
constexpr std::array<const char*, kColumns> kKeys = {"pageable_in", "pageable_out", "pinned_in", "pinned_out",
                                                     "cpu_store",   "cpu_load",     "memcpy"};

struct Row {
  uint64_t bytes = 0;
  std::array<double, kColumns> gigabytes_per_second{};  // 0: not possible at this size
};

template <typename Copy>
Try<double> measure(Client& client, std::size_t column, uint64_t bytes, Copy&& copy) {
  // Once for the caches and the memory behind the mappings.
  uint64_t copies = 0;
  uint64_t start = 0;
  uint64_t now = 0;
  do {
    if (const Status status = copy(); status != Status::kSuccess) {
      return std::unexpected(
          client.trouble(fmt::format("{} of {}", kKeys[column], bytes_text(bytes)), status));
    }
    now = ring::monotonic_ns();
    if (start == 0) {
      start = now;
    } else {
      ++copies;
    }
  } while (now - start < kLeastNs || copies == 0);
  return static_cast<double>(bytes * copies) / static_cast<double>(now - start);
}

Try<Row> measure_row(Client& client, uint64_t bytes, uint64_t device, std::span<std::byte> host,
                     std::span<std::byte> other, std::span<std::byte> pinned) {
  Row row;
  row.bytes = bytes;
  const auto add = [&](std::size_t column, auto&& copy) -> Try<void> {
    auto measured = measure(client, column, bytes, copy);
    if (!measured) return std::unexpected(measured.error());
    row.gigabytes_per_second[column] = *measured;
    return {};
  };
  const auto from = host.first(bytes);
  const auto& loops = client.session().bulk().copy();
  Try<void> done = add(kPageableIn, [&] {
    const Status status = client.copy_in(device, from);
    return status == Status::kSuccess ? client.finish() : status;
  });
  if (done) done = add(kPageableOut, [&] { return client.copy_out(from, device); });
  if (bytes <= pinned.size()) {
    if (done) {
      done = add(kPinnedIn, [&] {
        client.copy_pinned_in(device, pinned.data(), bytes);
        return client.finish();
      });
    }
    if (done) {
      done = add(kPinnedOut, [&] {
        client.copy_pinned_out(pinned.data(), device, bytes);
        return client.finish();
      });
    }
    if (done) {
      done = add(kStore, [&] {
        loops.store(pinned.data(), host.data(), bytes);
        return Status::kSuccess;
      });
    }
    if (done) {
      done = add(kLoad, [&] {
        loops.load(host.data(), pinned.data(), bytes);
        return Status::kSuccess;
      });
    }
  }
  if (done) {
    done = add(kMemcpy, [&] {
      std::memcpy(other.data(), host.data(), bytes);
      // The compiler must not take the copy for useless.
      asm volatile("" : : "r"(other.data()) : "memory");
      return Status::kSuccess;
    });
  }
  if (!done) return std::unexpected(done.error());
  return row;
}

void print_heading() {
  fmt::print("{:>10}  {:<17}  {:<17}  {:<17}  {:>8}\n", "GB/s", "pageable memory", "pinned memory",
             "CPU to region", "memcpy");
  fmt::print("{:>10}  {:>7}  {:>8}  {:>7}  {:>8}  {:>7}  {:>8}\n", "size", "in", "out", "in", "out", "store",
             "load");
}

void print_row(const Row& row) {
  const auto figure = [&](std::size_t column) {
    const double value = row.gigabytes_per_second[column];
    return value == 0 ? std::string("-")
                      : fmt::format("{:.{}f}", value,
                                    value < 0.1  ? 4
                                    : value < 10 ? 2
                                                 : 1);
  };
  fmt::print("{:>10}  {:>7}  {:>8}  {:>7}  {:>8}  {:>7}  {:>8}  {:>8}\n", bytes_text(row.bytes),
             figure(kPageableIn), figure(kPageableOut), figure(kPinnedIn), figure(kPinnedOut), figure(kStore),
             figure(kLoad), figure(kMemcpy));
  std::fflush(stdout);
}

}  // namespace

int measure_bandwidth(const Request& request, uint64_t largest) {
  return for_each_mapping(request, "bandwidth", [&](Client& client) -> Try<ordered_json> {
    const auto memory = DeviceMemory::allocate(client, largest);
    if (!memory) return std::unexpected(memory.error());
    auto host = pattern(largest, 1);
    auto other = pattern(largest, 2);
    // As much of the bulk heap as there is, up to the largest size.
    const auto& geometry = client.attachment().found().geometry;
    const uint64_t slots = shim::BulkHeap::kSlots * client.session().bulk().slot_bytes();
    uint64_t most = std::min(largest, geometry.bulk_bytes > slots ? geometry.bulk_bytes - slots : 0);
    most = most / shim::BulkHeap::kPinnedAlignment * shim::BulkHeap::kPinnedAlignment;
    std::optional<PinnedMemory> pinned;
    if (auto taken = PinnedMemory::allocate(client, std::max<uint64_t>(most, 4096))) {
      pinned.emplace(std::move(*taken));
    }
    const auto pinned_bytes = pinned ? pinned->bytes() : std::span<std::byte>();
    ordered_json answer;
    auto& rows = answer["sizes"] = ordered_json::array();
    if (!request.json) print_heading();
    for (uint64_t bytes = 64; bytes <= largest; bytes *= 4) {
      const auto row = measure_row(client, bytes, memory->address(), host, other, pinned_bytes);
      if (!row) return std::unexpected(row.error());
      if (!request.json) print_row(*row);
      ordered_json one = {{"bytes", row->bytes}};
      for (std::size_t i = 0; i < kColumns; ++i) {
        if (row->gigabytes_per_second[i] != 0) {
          one[fmt::format("{}_gb_per_s", kKeys[i])] = row->gigabytes_per_second[i];
        }
      }
      rows.push_back(std::move(one));
    }
    if (!request.json) {
      fmt::print("{}", paragraph(0, "", 0,
                                 "Each copy is waited for before the next one begins: at small sizes its "
                                 "latency is what is measured."));
    }
    return answer;
  });
}

}  // namespace vgpu::tools
