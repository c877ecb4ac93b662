// vgpu-probe test: is this device sane? A line for each check.
#include <fmt/format.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "protocol/commands.h"
#include "tools/vgpu-probe/answer.h"
#include "tools/vgpu-probe/device_report.h"
#include "tools/vgpu-probe/probe.h"
#include "tools/vgpu-probe/suite.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using nlohmann::ordered_json;

// What can be told without the device. False: there is no use in asking it.
bool check_region(Suite& suite, const Place& place) {
  suite.begin("region");
  const DeviceReport report = look_at(place, Detail::kShort);
  const auto wrong = [&] { return std::unexpected(Trouble{report.problem, report.advice}); };
  const bool mapped = suite.check("mapping", [&]() -> Try<std::string> {
    if (!report.region) return wrong();
    return fmt::format("{} by {}", bytes_text(report.region->file_bytes),
                       report.mapped_file.substr(report.mapped_file.rfind('/') + 1));
  });
  const bool sound = mapped && suite.check("layout", [&]() -> Try<std::string> {
    if (!report.decoded()) return wrong();
    const auto& geometry = report.region->found.geometry;
    return fmt::format("version {}, {} channels, ring {}, bulk {}", ring::kLayoutVersion,
                       geometry.channel_count, bytes_text(geometry.ring_bytes),
                       bytes_text(geometry.bulk_bytes));
  });
  if (!sound) return false;
  const RegionReport& region = *report.region;
  suite.check("device", [&]() -> Try<std::string> {
    if (!report.usable() && report.health != "other version") return wrong();
    return fmt::format("{}, {}", region.name, region.state);
  });
  suite.check("protocol", [&]() -> Try<std::string> {
    if (!region.protocol_matches) {
      return std::unexpected(
          Trouble{fmt::format("{} ({:016x}, vgpu {}), not this program's {} ({:016x}, vgpu {})",
                              region.found.protocol_version, region.found.protocol_hash, region.vgpu_version,
                              protocol::kProtocolVersion, protocol::kProtocolHash, VGPU_VERSION),
                  "use one version of vgpu on both sides"});
    }
    return fmt::format("version {} ({:016x}), vgpu {}", region.found.protocol_version,
                       region.found.protocol_hash, region.vgpu_version);
  });
  suite.check("heartbeat", [&]() -> Try<std::string> {
    if (!report.heartbeat->beats) {
      return std::unexpected(Trouble{
          fmt::format("none in {}; ten a second are due", duration_text(report.heartbeat->watched_ns)),
          report.advice});
    }
    return fmt::format("the next beat came after {}", duration_text(report.heartbeat->watched_ns));
  });
  return report.usable();
}

void run_all(Suite& suite, const Place& place) {
  if (!check_region(suite, place)) return;
  const auto open = [&] { return Client::open(place.location); };
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

int test_device(const Request& request) {
  const bool json = request.json;
  const auto place = choose_place(request.device, request.guests_directory, Use::kProgram);
  if (!place) return answer_failure(place.error(), json);
  end_cleanly_on_lost_memory();
  if (!json) {
    fmt::print("{}", paragraph(0, "vgpu-probe test", 17, place->name(), Tone::kBold));
  }
  const auto start = std::chrono::steady_clock::now();
  Suite suite(!json);
  run_all(suite, *place);
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
