// vgpu-probe test: is this device sane? A line for each check.
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "protocol/commands.h"
#include "ring/heartbeat.h"
#include "tools/vgpu-probe/answer.h"
#include "tools/vgpu-probe/places.h"
#include "tools/vgpu-probe/probe.h"
#include "tools/vgpu-probe/region_report.h"
#include "tools/vgpu-probe/suite.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using nlohmann::ordered_json;

constexpr const char* kRestart = "start its vgpu-device again; the log of the old one may say why it ended";

// What can be told without the device. False: there is no use in asking it.
bool check_region(Suite& suite, const pci::Location& location) {
  suite.begin("region");
  std::optional<pci::Bar> bar;
  std::optional<RegionReport> report;
  const bool mapped = suite.check("mapping", [&]() -> Try<std::string> {
    auto opened = pci::open_location(location);
    if (!opened) return std::unexpected(Trouble{opened.error().text, ""});
    bar = std::move(*opened);
    return fmt::format("{}, {}", bytes_text(bar->bytes().size()), bar->path());
  });
  const bool sound = mapped && suite.check("layout", [&]() -> Try<std::string> {
    auto read = read_region(*bar);
    if (!read) return std::unexpected(Trouble{read.error().text, kRestart});
    report = std::move(*read);
    const auto& geometry = report->found.geometry;
    return fmt::format("version {}, {} channels, ring {}, bulk {}", ring::kLayoutVersion,
                       geometry.channel_count, bytes_text(geometry.ring_bytes),
                       bytes_text(geometry.bulk_bytes));
  });
  if (!sound) return false;
  bool good = suite.check("protocol", [&]() -> Try<std::string> {
    const auto& found = report->found;
    const std::string theirs = printable(ring::load_text(found.vgpu_version, sizeof found.vgpu_version));
    if (!report->protocol_matches) {
      return std::unexpected(Trouble{
          fmt::format(
              "the device (vgpu {}) speaks protocol {} ({:016x}), this program (vgpu {}) {} ({:016x})",
              theirs, found.protocol_version, found.protocol_hash, VGPU_VERSION, protocol::kProtocolVersion,
              protocol::kProtocolHash),
          "use one version of vgpu on both sides"});
    }
    return fmt::format("version {} ({:016x}), vgpu {}", found.protocol_version, found.protocol_hash, theirs);
  });
  good = suite.check("device", [&]() -> Try<std::string> {
    if (report->device_lock == "free") {
      return std::unexpected(Trouble{"its vgpu-device is gone", kRestart});
    }
    if (report->state != "ready") {
      return std::unexpected(Trouble{
          fmt::format("state {}{}{}", report->state, report->reason.empty() ? "" : ": ", report->reason),
          kRestart});
    }
    return fmt::format("{}, ready", printable(ring::load_text(report->info.name, sizeof report->info.name)));
  }) && good;
  if (!good) {
    suite.skip("heartbeat", "no use in waiting for it");
    return false;
  }
  good = suite.check("heartbeat", [&]() -> Try<std::string> {
    const ring::RegionView region(bar->bytes(), report->found.geometry);
    ring::DeviceWatch watch(region.header(), report->found.generation, nullptr, 0);
    const uint64_t first = ring::load_relaxed(region.header().status.heartbeat);
    const auto start = std::chrono::steady_clock::now();
    while (ring::load_relaxed(region.header().status.heartbeat) == first) {
      if (const auto alive = watch.check(ring::monotonic_ns()); !alive) {
        return std::unexpected(Trouble{ring::device_loss_text(alive.error()), kRestart});
      }
      ::usleep(2000);
    }
    const auto waited = std::chrono::steady_clock::now() - start;
    return fmt::format("the next beat came after {}",
                       duration_text(static_cast<uint64_t>(
                           std::chrono::duration_cast<std::chrono::nanoseconds>(waited).count())));
  }) && good;
  return good;
}

void run_all(Suite& suite, const pci::Location& location) {
  if (!check_region(suite, location)) return;
  const auto open = [&] { return Client::open(location); };
  std::unique_ptr<Client> client;
  suite.begin("channel");
  const bool claimed = suite.check("claim", [&]() -> Try<std::string> {
    auto opened = open();
    if (!opened) return std::unexpected(opened.error());
    client = std::move(*opened);
    const auto& geometry = client->attachment().found().geometry;
    return fmt::format("channel {} of {}; mapped {}", client->session().channel(), geometry.channel_count,
                       pci::mapping_kind_name(client->attachment().mapping()));
  });
  if (!claimed) return;
  check_ring(suite, *client);
  check_memory(suite, *client);
  check_kernels(suite, *client);
  check_errors(suite, *client);
  check_counters(suite, *client);
  client.reset();
  check_recovery(suite, open);
}

}  // namespace

int test_device(const std::string& device, bool json) {
  const auto place = choose_place(device);
  if (!place) return answer_failure(place.error(), json);
  end_cleanly_on_lost_memory();
  if (!json) {
    fmt::print("{}", paragraph(0, "vgpu-probe test", 17, place->location.path, Tone::kBold));
  }
  const auto start = std::chrono::steady_clock::now();
  Suite suite(!json);
  run_all(suite, place->location);
  const auto took =
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start);
  const uint32_t passed = suite.count(Suite::Result::kPassed);
  const uint32_t failed = suite.count(Suite::Result::kFailed);
  const uint32_t skipped = suite.count(Suite::Result::kSkipped);
  if (json) {
    ordered_json answer = {{"path", place->location.path},
                           {"ok", failed == 0},
                           {"passed", passed},
                           {"failed", failed},
                           {"skipped", skipped}};
    auto& checks = answer["checks"] = ordered_json::array();
    for (const auto& check : suite.checks()) {
      checks.push_back({{"group", check.group},
                        {"name", check.name},
                        {"result", check.result == Suite::Result::kPassed   ? "passed"
                                   : check.result == Suite::Result::kFailed ? "failed"
                                                                            : "skipped"},
                        {"detail", check.detail},
                        {"advice", check.advice},
                        {"duration_ns", check.nanoseconds}});
    }
    answer_json(answer);
  } else {
    const std::string verdict = failed == 0 ? tinted("all is well", Tone::kGood)
                                            : tinted(fmt::format("{} FAILED", failed), Tone::kBad);
    fmt::print("{}; {} of {} checks passed{} in {}\n", verdict, passed, suite.checks().size(),
               skipped == 0 ? "" : fmt::format(", {} skipped", skipped),
               duration_text(static_cast<uint64_t>(took.count())));
  }
  return failed == 0 ? 0 : 1;
}

}  // namespace vgpu::tools
