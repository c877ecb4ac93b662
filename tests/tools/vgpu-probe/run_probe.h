// Runs vgpu-probe and takes what it says.
#pragma once

#include <sys/wait.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/device/server/child_process.h"

namespace vgpu::tools::testing {

struct Answer {
  int status = 0;  // exit status; -1: it was killed
  std::string text;

  nlohmann::json json() const { return nlohmann::json::parse(text, nullptr, false); }
};

inline Answer probe(std::vector<std::string> arguments, bool with_errors = false) {
  arguments.insert(arguments.begin(), VGPU_PROBE_PROGRAM);
  device::testing::ChildProcess program(arguments, with_errors);
  Answer answer;
  answer.text = program.read_all();
  const int status = program.wait();
  answer.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return answer;
}

}  // namespace vgpu::tools::testing
