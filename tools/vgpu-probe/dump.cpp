// vgpu-probe dump: everything as one JSON document, to attach to a bug report. Nothing secret goes into it:
// no memory contents, no environment, no command lines, no host name; users' directories are shortened to
// "~".
#include <fmt/format.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "protocol/commands.h"
#include "ring/region_layout.h"
#include "tools/vgpu-probe/answer.h"
#include "tools/vgpu-probe/device_report.h"
#include "tools/vgpu-probe/pinning.h"
#include "tools/vgpu-probe/probe.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using nlohmann::ordered_json;
namespace fs = std::filesystem;

// "/home/alice/x" says who reports.
std::string without_user(const std::string& text) {
  std::string shortened = text;
  for (const std::string_view root : {"/home/", "/Users/"}) {
    for (std::size_t at = 0; (at = shortened.find(root, at)) != std::string::npos; ++at) {
      const std::size_t end = std::min(shortened.find_first_of("/ '\"", at + root.size()), shortened.size());
      shortened.replace(at, end - at, "~");
    }
  }
  return shortened;
}

void hide_users(ordered_json& json) {
  if (json.is_string()) {
    json = without_user(json.get<std::string>());
  } else if (json.is_structured()) {
    for (auto& inner : json) hide_users(inner);
  }
}

std::string first_line(const std::string& path) {
  std::string line;
  std::getline(std::ifstream(path), line);
  return printable(line);
}

// The value behind "name : value" in a file of /proc.
std::string value_in(const std::string& path, std::string_view name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(name)) continue;
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const auto start = line.find_first_not_of(" \t", colon + 1);
    return start == std::string::npos ? "" : printable(std::string_view(line).substr(start));
  }
  return "";
}

ordered_json system_json() {
  utsname name{};
  ::uname(&name);
  ordered_json json = {
      {"kernel", fmt::format("{} {}", name.sysname, name.release)},
      {"machine", name.machine},
      {"distribution", ""},
      {"processor", value_in("/proc/cpuinfo", "model name")},
      {"in_a_virtual_machine", value_in("/proc/cpuinfo", "flags").find("hypervisor") != std::string::npos},
      {"memory", value_in("/proc/meminfo", "MemTotal")},
      {"memory_available", value_in("/proc/meminfo", "MemAvailable")},
      {"load", first_line("/proc/loadavg")}};
  if (std::ifstream release("/etc/os-release"); release) {
    for (std::string line; std::getline(release, line);) {
      if (!line.starts_with("PRETTY_NAME=")) continue;
      line.erase(0, 12);
      std::erase(line, '"');
      json["distribution"] = printable(line);
    }
  }
  struct statvfs shm{};
  if (::statvfs("/dev/shm", &shm) == 0) {
    json["shm_bytes"] = uint64_t{shm.f_blocks} * shm.f_frsize;
    json["shm_free_bytes"] = uint64_t{shm.f_bavail} * shm.f_frsize;
  }
  return json;
}

// Processes that map a CUDA or vgpu library, and which file: two copies of one are a classic.
ordered_json processes_json() {
  auto json = ordered_json::array();
  std::error_code error;
  for (const auto& entry : fs::directory_iterator("/proc", error)) {
    const std::string name = entry.path().filename().string();
    if (name.find_first_not_of("0123456789") != std::string::npos || name.size() > 9) continue;
    const auto process = look_at_process(static_cast<uint32_t>(std::stoul(name)));
    if (process.libraries.empty() && process.region_files.empty()) continue;
    json.push_back({{"pid", std::stoul(name)},
                    {"process", process.name},
                    {"libraries", process.libraries},
                    {"maps", process.region_files}});
  }
  return json;
}

}  // namespace

int dump_all(const Request& request, const std::string& file) {
  std::time_t now = std::time(nullptr);
  ordered_json answer = {{"vgpu_probe", VGPU_VERSION},
                         {"layout_version", ring::kLayoutVersion},
                         {"protocol_version", protocol::kProtocolVersion},
                         {"protocol_hash", fmt::format("{:016x}", protocol::kProtocolHash)},
                         {"time", time_text(static_cast<uint64_t>(now) * 1'000'000'000)},
                         {"system", system_json()}};
  std::vector<Place> places = all_places(request.guests_directory);
  if (!request.device.empty()) {
    auto place = choose_place(request.device, request.guests_directory, Use::kLook);
    if (!place) return answer_failure(place.error(), false);
    places = {std::move(*place)};
  }
  auto& devices = answer["devices"] = ordered_json::array();
  std::vector<pci::PciAddress> addresses;
  for (const auto& place : places) {
    devices.push_back(full_json(look_at(place, Detail::kFull)));
    if (place.function) addresses.push_back(place.function->address);
  }
  if (const auto machine = pci::machine_parts(addresses)) {
    answer["machine"] = machine_json(*machine);
    for (std::size_t i = 0; i < places.size(); ++i) {
      devices[i]["pinning"] = pinning_json(recommend_pinning(places[i], *machine));
    }
  }
  answer["processes"] = processes_json();
  hide_users(answer);
  const std::string text = answer.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
  if (file == "-") {
    fmt::print("{}", text);
    return std::fflush(stdout) == 0 ? 0 : 1;
  }
  std::FILE* to = std::fopen(file.c_str(), "we");
  if (to == nullptr) {
    return answer_failure(fmt::format("cannot write {}: {}", file, std::strerror(errno)), false);
  }
  const bool written = std::fwrite(text.data(), 1, text.size(), to) == text.size();
  if (std::fclose(to) != 0 || !written) {
    return answer_failure(fmt::format("cannot write all of {}: is the disk full?", file), false);
  }
  fmt::print(
      "{}", paragraph(0, "", 0,
                      fmt::format("{}: {}, {} device{}. Look through it before you send it to anybody.", file,
                                  bytes_text(text.size()), places.size(), places.size() == 1 ? "" : "s")));
  return 0;
}

}  // namespace vgpu::tools
