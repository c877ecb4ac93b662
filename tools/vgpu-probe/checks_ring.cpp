// vgpu-probe test: the ring itself. Answers, order, wrap-around, batches, several threads.
#include <fmt/format.h>

#include <atomic>
#include <cstring>
#include <thread>
#include <vector>

#include "tools/vgpu-probe/suite.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using protocol::Status;

Try<void> ping(Client& client, uint64_t cookie) {
  const auto reply = client.call("Ping", protocol::PingRequest{.cookie = cookie}, protocol::PingReply{});
  if (!reply) return std::unexpected(reply.error());
  if (reply->cookie != cookie) {
    return std::unexpected(Trouble{
        fmt::format("the answer to {:#x} is {:#x}: replies are mixed up", cookie, reply->cookie), ""});
  }
  return {};
}

Try<std::string> answers(Client& client) {
  constexpr uint64_t kPings = 200;
  for (uint64_t i = 0; i < kPings; ++i) {
    if (auto done = ping(client, i * 0x9e3779b97f4a7c15u + 1); !done) return std::unexpected(done.error());
  }
  return fmt::format("{} questions, each with its answer", kPings);
}

// A word is written and copied elsewhere, again and again: any two commands that change places show.
Try<std::string> order(Client& client) {
  constexpr uint64_t kSteps = 2000;
  const auto word = DeviceMemory::allocate(client, 8);
  if (!word) return std::unexpected(word.error());
  const auto history = DeviceMemory::allocate(client, kSteps * 8);
  if (!history) return std::unexpected(history.error());
  for (uint64_t i = 0; i < kSteps; ++i) {
    client.session().submit(
        protocol::WriteValueRequest{.address = word->address(), .value = i + 1, .bytes = 8}, 0);
    client.session().submit(protocol::CopyDeviceRequest{.destination = history->address() + i * 8,
                                                        .source = word->address(),
                                                        .width = 8,
                                                        .height = 1,
                                                        .destination_pitch = 8,
                                                        .source_pitch = 8},
                            0);
  }
  std::vector<uint64_t> seen(kSteps);
  const Status copied = client.copy_out(std::as_writable_bytes(std::span(seen)), history->address());
  if (copied != Status::kSuccess) return std::unexpected(client.trouble("copying out", copied));
  if (auto done = client.finish("WriteValue and CopyDevice"); !done) return std::unexpected(done.error());
  for (uint64_t i = 0; i < kSteps; ++i) {
    if (seen[i] != i + 1) {
      return std::unexpected(Trouble{
          fmt::format("step {} saw the value of step {}: commands overtake each other", i + 1, seen[i]), ""});
    }
  }
  return fmt::format("{} commands, none before its time", number_text(2 * kSteps));
}

// Records of all lengths, so that they end everywhere in the ring, several times around it.
Try<std::string> wrap_around(Client& client) {
  const uint64_t ring = client.attachment().found().geometry.ring_bytes;
  const uint64_t target = ring <= (4U << 20) ? 3 * ring : ring + ring / 8;
  constexpr uint64_t kBuffer = 64 << 10;
  constexpr uint32_t kLengths[] = {1, 7, 40, 41, 63, 64, 65, 100, 1000, 4095, 4096, 8000, 8192};
  const auto memory = DeviceMemory::allocate(client, kBuffer);
  if (!memory) return std::unexpected(memory.error());
  const auto source = pattern(kBuffer, 7);
  auto expected = pattern(kBuffer, 8);
  if (const Status status = client.copy_in(memory->address(), expected); status != Status::kSuccess) {
    return std::unexpected(client.trouble("copying in", status));
  }
  const uint64_t start = client.session().submitted();
  uint64_t records = 0;
  uint64_t at = 0;
  while (client.session().submitted() - start < target) {
    const uint32_t length = kLengths[records % std::size(kLengths)];
    if (at + length > kBuffer) at = 0;
    const uint64_t from = (records * 331) % (kBuffer - length);
    const auto piece = std::span(source).subspan(from, length);
    const auto record =
        client.session().submit(protocol::CopyInlineRequest{.destination = memory->address() + at}, 0, piece);
    if (record.status != Status::kSuccess) {
      return std::unexpected(client.trouble("CopyInline", record.status));
    }
    std::memcpy(expected.data() + at, piece.data(), length);
    at += length;
    ++records;
  }
  std::vector<std::byte> got(kBuffer);
  if (const Status status = client.copy_out(got, memory->address()); status != Status::kSuccess) {
    return std::unexpected(client.trouble("copying out", status));
  }
  if (auto done = client.finish("CopyInline"); !done) return std::unexpected(done.error());
  if (const std::string wrong = difference(got, expected); !wrong.empty()) {
    return std::unexpected(Trouble{"after going around the ring, " + wrong, ""});
  }
  return fmt::format("{} records, {} through a ring of {}", number_text(records), bytes_text(target),
                     bytes_text(ring));
}

Try<std::string> batches(Client& client) {
  constexpr uint32_t kBatch = 64;
  constexpr uint32_t kRounds = 8;
  const auto memory = DeviceMemory::allocate(client, kBatch * 4);
  if (!memory) return std::unexpected(memory.error());
  std::vector<uint32_t> got(kBatch);
  for (uint32_t round = 1; round <= kRounds; ++round) {
    {
      shim::Session::Batch batch(client.session());
      for (uint32_t i = 0; i < kBatch; ++i) {
        const protocol::MemsetRequest request{.destination = memory->address() + uint64_t{i} * 4,
                                              .width = 1,
                                              .height = 1,
                                              .pitch = 4,
                                              .value = round * 1000 + i,
                                              .element_bytes = 4};
        batch.add(static_cast<uint16_t>(request.kOpcode), 0, std::as_bytes(std::span(&request, 1)));
      }
    }
    if (const Status status = client.copy_out(std::as_writable_bytes(std::span(got)), memory->address());
        status != Status::kSuccess) {
      return std::unexpected(client.trouble("copying out", status));
    }
    for (uint32_t i = 0; i < kBatch; ++i) {
      if (got[i] != round * 1000 + i) {
        return std::unexpected(
            Trouble{fmt::format("record {} of a batch left {}, not {}", i, got[i], round * 1000 + i), ""});
      }
    }
  }
  if (auto done = client.finish("Memset"); !done) return std::unexpected(done.error());
  return fmt::format("{} times {} records by one store", kRounds, kBatch);
}

Try<std::string> threads(Client& client) {
  constexpr uint32_t kThreads = 4;
  constexpr uint32_t kPings = 100;
  std::vector<Try<void>> results(kThreads);
  {
    std::vector<std::jthread> all;
    for (uint32_t t = 0; t < kThreads; ++t) {
      all.emplace_back([&, t] {
        for (uint32_t i = 0; i < kPings && results[t]; ++i) {
          results[t] = ping(client, (uint64_t{t} << 32) + i + 1);
        }
      });
    }
  }
  for (auto& result : results) {
    if (!result) return std::unexpected(result.error());
  }
  return fmt::format("{} at once, {} answers, none to another", kThreads, kThreads * kPings);
}

}  // namespace

void check_ring(Suite& suite, Client& client) {
  suite.begin("ring");
  suite.check("answers", [&] { return answers(client); });
  suite.check("order", [&] { return order(client); });
  suite.check("wrap-around", [&] { return wrap_around(client); });
  suite.check("batches", [&] { return batches(client); });
  suite.check("threads", [&] { return threads(client); });
}

}  // namespace vgpu::tools
