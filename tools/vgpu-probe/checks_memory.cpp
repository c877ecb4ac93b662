// vgpu-probe test: every class of copy in both directions, filling, and mapping of device memory.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "tools/vgpu-probe/suite.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using protocol::Status;

constexpr uint64_t kGuard = 64;  // bytes behind and before a copy that must stay as they were

// Copies in and out at several alignments, with the bytes around them watched.
Try<std::string> both_ways(Client& client, const std::vector<std::size_t>& sizes, bool pinned) {
  uint64_t copies = 0;
  for (const std::size_t bytes : sizes) {
    for (const std::size_t shift : {std::size_t{0}, std::size_t{13}}) {
      const std::size_t all = bytes + 2 * kGuard + shift;
      const auto memory = DeviceMemory::allocate(client, all);
      if (!memory) return std::unexpected(memory.error());
      auto expected = pattern(all, 3 * bytes + shift);
      const auto data = pattern(bytes, 5 * bytes + shift + 1);
      const uint64_t to = memory->address() + kGuard + shift;
      if (const Status status = client.copy_in(memory->address(), expected); status != Status::kSuccess) {
        return std::unexpected(client.trouble("copying in", status));
      }
      std::memcpy(expected.data() + kGuard + shift, data.data(), bytes);
      std::vector<std::byte> back(bytes);
      if (pinned) {
        auto host = PinnedMemory::allocate(client, bytes + shift);
        if (!host) return std::unexpected(host.error());
        std::byte* const place = host->bytes().data() + shift;
        const auto& copy = client.session().bulk().copy();
        copy.store(place, data.data(), bytes);
        Status status = client.copy_pinned_in(to, place, bytes);
        if (status == Status::kSuccess) status = client.finish();
        if (status != Status::kSuccess) return std::unexpected(client.trouble("CopyFromBulk", status));
        const std::vector<std::byte> zeros(bytes);
        copy.store(place, zeros.data(), bytes);
        status = client.copy_pinned_out(place, to, bytes);
        if (status == Status::kSuccess) status = client.finish();
        if (status != Status::kSuccess) return std::unexpected(client.trouble("CopyToBulk", status));
        copy.load(back.data(), place, bytes);
      } else {
        Status status = client.copy_in(to, data);
        if (status == Status::kSuccess) status = client.copy_out(back, to);
        if (status != Status::kSuccess) return std::unexpected(client.trouble("copying", status));
      }
      if (const std::string wrong = difference(back, data); !wrong.empty()) {
        return std::unexpected(Trouble{fmt::format("{} there and back: {}", bytes_text(bytes), wrong), ""});
      }
      std::vector<std::byte> whole(all);
      if (const Status status = client.copy_out(whole, memory->address()); status != Status::kSuccess) {
        return std::unexpected(client.trouble("copying out", status));
      }
      if (const std::string wrong = difference(whole, expected); !wrong.empty()) {
        return std::unexpected(
            Trouble{fmt::format("{} copied to offset {}: {}", bytes_text(bytes), kGuard + shift, wrong), ""});
      }
      if (auto done = client.finish("copies"); !done) return std::unexpected(done.error());
      copies += 2;
    }
  }
  return fmt::format("{} copies, {} to {}, in and out", copies, bytes_text(sizes.front()),
                     bytes_text(sizes.back()));
}

Try<std::string> rows(Client& client) {
  constexpr uint64_t kWidth = 37;
  constexpr uint64_t kHeight = 50;
  constexpr uint64_t kHostPitch = 40;
  constexpr uint64_t kDevicePitch = 61;
  constexpr uint64_t kBytes = kHeight * kDevicePitch;
  const auto memory = DeviceMemory::allocate(client, kBytes);
  if (!memory) return std::unexpected(memory.error());
  auto host = PinnedMemory::allocate(client, kHeight * kHostPitch);
  if (!host) return std::unexpected(host.error());
  auto expected = pattern(kBytes, 11);
  const auto data = pattern(kHeight * kHostPitch, 12);
  if (const Status status = client.copy_in(memory->address(), expected); status != Status::kSuccess) {
    return std::unexpected(client.trouble("copying in", status));
  }
  client.session().bulk().copy().store(host->bytes().data(), data.data(), data.size());
  client.session().submit(
      protocol::CopyFromBulkRequest{.destination = memory->address(),
                                    .bulk_offset = client.session().bulk().offset_of(host->bytes().data()),
                                    .width = kWidth,
                                    .height = kHeight,
                                    .destination_pitch = kDevicePitch,
                                    .bulk_pitch = kHostPitch},
      0);
  for (uint64_t row = 0; row < kHeight; ++row) {
    std::memcpy(expected.data() + row * kDevicePitch, data.data() + row * kHostPitch, kWidth);
  }
  std::vector<std::byte> got(kBytes);
  if (const Status status = client.copy_out(got, memory->address()); status != Status::kSuccess) {
    return std::unexpected(client.trouble("copying out", status));
  }
  if (auto done = client.finish("CopyFromBulk of rows"); !done) return std::unexpected(done.error());
  if (const std::string wrong = difference(got, expected); !wrong.empty()) {
    return std::unexpected(Trouble{"rows with gaps between them: " + wrong, ""});
  }
  return fmt::format("{} rows of {} bytes, gaps untouched", kHeight, kWidth);
}

Try<std::string> on_device(Client& client) {
  constexpr uint64_t kBytes = 300'001;
  const auto from = DeviceMemory::allocate(client, kBytes);
  if (!from) return std::unexpected(from.error());
  const auto to = DeviceMemory::allocate(client, kBytes);
  if (!to) return std::unexpected(to.error());
  const auto data = pattern(kBytes, 21);
  std::vector<std::byte> got(kBytes);
  Status status = client.copy_in(from->address(), data);
  if (status == Status::kSuccess) {
    client.session().submit(protocol::CopyDeviceRequest{.destination = to->address(),
                                                        .source = from->address(),
                                                        .width = kBytes,
                                                        .height = 1,
                                                        .destination_pitch = kBytes,
                                                        .source_pitch = kBytes},
                            0);
    status = client.copy_out(got, to->address());
  }
  if (status != Status::kSuccess) return std::unexpected(client.trouble("copying", status));
  if (auto done = client.finish("CopyDevice"); !done) return std::unexpected(done.error());
  if (const std::string wrong = difference(got, data); !wrong.empty()) {
    return std::unexpected(Trouble{"device to device: " + wrong, ""});
  }
  return fmt::format("{} from device to device", bytes_text(kBytes));
}

Try<std::string> filling(Client& client) {
  constexpr uint64_t kBytes = 4096;
  const auto memory = DeviceMemory::allocate(client, kBytes);
  if (!memory) return std::unexpected(memory.error());
  auto expected = pattern(kBytes, 31);
  if (const Status status = client.copy_in(memory->address(), expected); status != Status::kSuccess) {
    return std::unexpected(client.trouble("copying in", status));
  }
  uint64_t at = 8;
  for (const uint32_t element : {1U, 2U, 4U}) {
    constexpr uint32_t kCount = 200;
    constexpr uint32_t kValue = 0xa1b2c3d4;
    client.session().submit(protocol::MemsetRequest{.destination = memory->address() + at,
                                                    .width = kCount,
                                                    .height = 1,
                                                    .pitch = uint64_t{kCount} * element,
                                                    .value = kValue,
                                                    .element_bytes = element},
                            0);
    for (uint32_t i = 0; i < kCount; ++i) std::memcpy(expected.data() + at + i * element, &kValue, element);
    at += kCount * element + 8;
  }
  std::vector<std::byte> got(kBytes);
  if (const Status status = client.copy_out(got, memory->address()); status != Status::kSuccess) {
    return std::unexpected(client.trouble("copying out", status));
  }
  if (auto done = client.finish("Memset"); !done) return std::unexpected(done.error());
  if (const std::string wrong = difference(got, expected); !wrong.empty()) {
    return std::unexpected(Trouble{"filled memory: " + wrong, ""});
  }
  return "elements of 1, 2 and 4 bytes";
}

// Reserve, create, map, use, unmap: how large allocators of frameworks take memory.
Try<std::string> mapping(Client& client) {
  constexpr uint64_t kBytes = 2 << 20;
  const auto range = client.call("AddressReserve", protocol::AddressReserveRequest{.bytes = kBytes},
                                 protocol::AddressReserveReply{});
  if (!range) return std::unexpected(range.error());
  const uint32_t physical = client.new_handle();
  const auto step = [&](const char* what, const auto& request, auto reply) -> Try<void> {
    auto done = client.call(what, request, reply);
    if (!done) return std::unexpected(done.error());
    return {};
  };
  Try<void> done =
      step("PhysicalCreate", protocol::PhysicalCreateRequest{.bytes = kBytes, .physical = physical},
           protocol::PhysicalCreateReply{});
  if (done) {
    done = step("Map", protocol::MapRequest{.address = range->address, .bytes = kBytes, .physical = physical},
                protocol::MapReply{});
    if (done) {
      done = step("SetAccess",
                  protocol::SetAccessRequest{.address = range->address, .bytes = kBytes, .access = 3},
                  protocol::SetAccessReply{});
      const auto data = pattern(10'000, 41);
      std::vector<std::byte> got(data.size());
      if (done) {
        Status status = client.copy_in(range->address + kBytes - data.size(), data);
        if (status == Status::kSuccess) status = client.copy_out(got, range->address + kBytes - got.size());
        if (status == Status::kSuccess) status = client.finish();
        if (status != Status::kSuccess) done = std::unexpected(client.trouble("copying", status));
      }
      if (const std::string wrong = done ? difference(got, data) : ""; !wrong.empty()) {
        done = std::unexpected(Trouble{"mapped memory: " + wrong, ""});
      }
      auto undone = step("Unmap", protocol::UnmapRequest{.address = range->address, .bytes = kBytes},
                         protocol::UnmapReply{});
      if (done && !undone) done = std::move(undone);
    }
    auto undone = step("PhysicalRelease", protocol::PhysicalReleaseRequest{.physical = physical},
                       protocol::PhysicalReleaseReply{});
    if (done && !undone) done = std::move(undone);
  }
  auto undone = step("AddressFree", protocol::AddressFreeRequest{.address = range->address, .bytes = kBytes},
                     protocol::AddressFreeReply{});
  if (done && !undone) done = std::move(undone);
  if (!done) return std::unexpected(done.error());
  return fmt::format("{} reserved, mapped, used, unmapped", bytes_text(kBytes));
}

}  // namespace

void check_memory(Suite& suite, Client& client) {
  suite.begin("memory");
  const std::size_t slot = client.session().bulk().slot_bytes();
  const std::size_t bulk = client.attachment().found().geometry.bulk_bytes;
  suite.check("small copies", [&] { return both_ways(client, {1, 2, 4, 8, 63, 64, 65, 1000, 1024}, false); });
  suite.check("staged copies", [&] { return both_ways(client, {1025, 4096, slot - 1, slot}, false); });
  suite.check("large copies",
              [&] { return both_ways(client, {slot + 1, 3 * slot - 5, 9 * slot + 13}, false); });
  // What is left beside the slots may be small.
  const std::size_t pinned = std::min<std::size_t>(1 << 20, (bulk - shim::BulkHeap::kSlots * slot) / 2);
  suite.check("pinned copies", [&] { return both_ways(client, {1, 64, 4097, pinned}, true); });
  suite.check("rows", [&] { return rows(client); });
  suite.check("device copies", [&] { return on_device(client); });
  suite.check("filling", [&] { return filling(client); });
  suite.check("mapping", [&] { return mapping(client); });
}

}  // namespace vgpu::tools
