// How a command answers: JSON on standard output, or why there is no answer on standard error.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

namespace vgpu::tools {

// One line break at the end; bytes that are no UTF-8 are replaced.
void answer_json(const nlohmann::ordered_json& answer);
// Says it, wrapped, on standard error, and with `json` as {"error": ...} on standard output. Returns 1, the
// exit status.
int answer_failure(const std::string& text, bool json);

}  // namespace vgpu::tools
