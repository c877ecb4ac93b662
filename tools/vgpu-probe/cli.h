// vgpu-probe's command line: the commands, their options, and what is generated from them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tools/vgpu-probe/probe.h"

namespace CLI {
class App;
}

namespace vgpu::tools {

class CommandLine {
 public:
  CommandLine();
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  // Parses and runs. Returns the exit status.
  int run(int argc, char** argv);

 private:
  int dispatch() const;

  std::unique_ptr<CLI::App> app_;
  Request request_;
  bool all_channels_ = false;
  uint32_t round_trips_ = 10'000;
  uint64_t largest_ = 16U << 20;
  KernelOptions kernels_;
  std::string svg_file_;
  double interval_ = 1;
  uint64_t looks_ = 0;
  std::string dump_file_ = "-";
};

// A script for bash, and a page for man(1), of all commands and options of the application.
std::string bash_completion(const CLI::App& app);
std::string manual_page(const CLI::App& app);

// One of a command's examples, as --help and the manual show it.
struct Example {
  const char* command;  // vgpu-probe's
  const char* line;
  const char* meaning;
};
const std::vector<Example>& examples();

}  // namespace vgpu::tools
