// vgpu-probe test: what must fail, fails with the error that CUDA documents, and nothing else comes of it.
#include <fmt/format.h>

#include <chrono>
#include <string_view>
#include <thread>
#include <vector>

#include "tools/vgpu-probe/kernels.h"
#include "tools/vgpu-probe/suite.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using protocol::Status;

// The wanted status, and words of the device that go with it.
Try<std::string> must_be(Client& client, std::string_view what, Status got, Status want) {
  if (got != want) {
    return std::unexpected(
        Trouble{fmt::format("{}: {}, must be {}", what, status_text(got), status_text(want)), ""});
  }
  // The channel goes on, and the error is told once.
  if (const Status next = client.finish(); next != Status::kSuccess) {
    return std::unexpected(Trouble{fmt::format("{} is told again: {}", what, status_text(next)), ""});
  }
  return status_text(got);
}

Try<std::string> illegal_address(const std::function<Try<std::unique_ptr<Client>>()>& open) {
  {
    auto client = open();
    if (!client) return std::unexpected(client.error());
    auto kernels = Kernels::load(**client);
    if (!kernels) return std::unexpected(kernels.error());
    (*kernels)->launch("poke", 1, 1, uint64_t{16}, uint32_t{1});
    if (const Status status = (*client)->finish(); status != Status::kIllegalAddress) {
      return std::unexpected(Trouble{fmt::format("a kernel that stores to address 16: {}, must be {}",
                                                 status_text(status), status_text(Status::kIllegalAddress)),
                                     ""});
    }
    protocol::PingReply reply;
    if ((*client)->session().call(protocol::PingRequest{.cookie = 1}, reply) != Status::kIllegalAddress) {
      return std::unexpected(Trouble{"the error does not stay, as CUDA wants it to", ""});
    }
  }
  auto next = open();
  if (!next) return std::unexpected(next.error());
  auto reply =
      (*next)->call("Ping by the next owner", protocol::PingRequest{.cookie = 5}, protocol::PingReply{});
  if (!reply) return std::unexpected(reply.error());
  return "stays with its process; the next one works";
}

}  // namespace

void check_errors(Suite& suite, Client& client) {
  suite.begin("errors");
  auto& session = client.session();
  suite.check("foreign address", [&] {
    session.submit(protocol::MemFreeRequest{.address = 12345}, 0);
    return must_be(client, "freeing what was never allocated", client.finish(), Status::kInvalidValue);
  });
  suite.check("past the end", [&]() -> Try<std::string> {
    const auto& info = session.info();
    const std::byte bytes[8] = {};
    session.submit(protocol::CopyInlineRequest{.destination = info.va_base + info.va_bytes - 4}, 0, bytes);
    return must_be(client, "a copy beyond the device's addresses", client.finish(), Status::kInvalidValue);
  });
  suite.check("too much memory", [&] {
    protocol::MemAllocReply reply;
    const Status got =
        session.call(protocol::MemAllocRequest{.bytes = session.info().total_memory_bytes + 1}, reply);
    return must_be(client, "allocating more than there is", got, Status::kOutOfMemory);
  });
  suite.check("bad module", [&]() -> Try<std::string> {
    const Status got = load_module(client, client.new_handle(), ".version 6.4\n.target sm_61\nrubbish;\n");
    return must_be(client, "loading PTX that is none", got, Status::kInvalidPtx);
  });
  suite.check("unknown module", [&] {
    protocol::FunctionGetReply reply;
    const std::string_view name = "nothing";
    const Status got = session.call(protocol::FunctionGetRequest{.module = 999'999, .function = 1}, reply,
                                    std::as_bytes(std::span(name)));
    return must_be(client, "a function of a module that is none", got, Status::kInvalidHandle);
  });
  suite.check("unknown command", [&] {
    session.submit_encoded(0x7ffe, 0, {});
    return must_be(client, "a command that is none", client.finish(), Status::kNotSupported);
  });
}

void check_counters(Suite& suite, Client& client) {
  suite.begin("accounts");
  const auto& counters = client.control().counters;
  // The device counts a little later than it answers.
  const auto settles = [](const auto& holds) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
    while (!holds()) {
      if (std::chrono::steady_clock::now() > end) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  };
  suite.check("memory given back", [&]() -> Try<std::string> {
    client.finish();
    if (!settles([&] { return ring::load_relaxed(counters.memory_in_use_bytes) == 0; })) {
      return std::unexpected(
          Trouble{fmt::format("{} still in use after everything was freed",
                              bytes_text(ring::load_relaxed(counters.memory_in_use_bytes))),
                  ""});
    }
    return fmt::format("all; {} at the most", bytes_text(ring::load_relaxed(counters.memory_peak_bytes)));
  });
  suite.check("counters", [&]() -> Try<std::string> {
    const uint64_t sent = ring::load_relaxed(client.control().producer.round_trips);
    if (!settles([&] {
          return ring::load_relaxed(counters.replies) >= sent && ring::load_relaxed(counters.launches) >= 5;
        })) {
      return std::unexpected(Trouble{
          fmt::format("it counts {} answers and {} launches; {} answers were got",
                      ring::load_relaxed(counters.replies), ring::load_relaxed(counters.launches), sent),
          "was the work done by this device?"});
    }
    return fmt::format(
        "{} commands, {} launches, {} answers", number_text(ring::load_relaxed(counters.commands)),
        ring::load_relaxed(counters.launches), number_text(ring::load_relaxed(counters.replies)));
  });
}

void check_recovery(Suite& suite, const std::function<Try<std::unique_ptr<Client>>()>& open) {
  suite.begin("recovery");
  suite.check("illegal address", [&] { return illegal_address(open); });
}

}  // namespace vgpu::tools
