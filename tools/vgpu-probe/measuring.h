// What latency and bandwidth share: one client for each way of mapping the device, and their answers.
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>

#include "tools/vgpu-probe/client.h"
#include "tools/vgpu-probe/probe.h"

namespace vgpu::tools {

// Calls `measure` for each mapping, which prints unless JSON is wanted, and returns what to put into it.
// Returns the exit status.
int for_each_mapping(const Request& request, const char* what,
                     const std::function<Try<nlohmann::ordered_json>(Client&)>& measure);

}  // namespace vgpu::tools
