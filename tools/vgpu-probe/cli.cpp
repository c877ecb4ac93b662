// The commands and their options.
#include "tools/vgpu-probe/cli.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <sstream>

#include "tools/vgpu-probe/places.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

std::string footer_of(const std::string& command) {
  std::string text;
  for (const auto& example : examples()) {
    if (example.command != command) continue;
    text +=
        fmt::format("{}  {}\n      {}\n", text.empty() ? "Examples:\n" : "", example.line, example.meaning);
  }
  return text;
}

// CLI11's own help, in the width of the terminal.
class Formatter : public CLI::Formatter {
 public:
  std::string make_option_desc(const CLI::Option* option) const override {
    return in_column(option->get_description());
  }
  std::string make_subcommand(const CLI::App* command) const override {
    std::stringstream out;
    CLI::detail::format_help(out, command->get_name(), in_column(command->get_description()),
                             get_column_width());
    return out.str();
  }
  std::string make_description(const CLI::App* app) const override {
    std::string text;
    for (const auto& line : wrapped(app->get_description(), terminal_width() - 1)) text += line + "\n";
    return text;
  }

 private:
  // CLI11 indents what follows a line break.
  std::string in_column(const std::string& description) const {
    std::string text;
    for (const auto& line : wrapped(description, terminal_width() - get_column_width() - 1)) {
      text += (text.empty() ? "" : "\n") + line;
    }
    return text;
  }
};

}  // namespace

const std::vector<Example>& examples() {
  static const std::vector<Example> all = {
      {"", "vgpu-probe list", "what is there, and whether it can be used"},
      {"", "vgpu-probe test", "does the device work?"},
      {"", "vgpu-probe dump -o report.json", "everything, to attach to a bug report"},
      {"list", "vgpu-probe list", "every vGPU of this machine, and on a host the guests' regions"},
      {"list", "vgpu-probe list --json | jq '.devices[] | {path, health}'",
       "for scripts; status 1: none is usable"},
      {"show", "vgpu-probe show", "the device that a CUDA program would use"},
      {"show", "vgpu-probe show 0000:00:04.0", "the one at this PCI address"},
      {"show", "vgpu-probe show vm1", "on the host: the region of the guest vm1"},
      {"show", "vgpu-probe show --json | jq .channels[0].last_error", "what a channel's newest error was"},
      {"test", "vgpu-probe test", "a line for each check, status 0 if all passed"},
      {"test", "vgpu-probe test --json | jq '.checks[] | select(.result == \"failed\")'",
       "what failed, and why"},
      {"latency", "vgpu-probe latency --count 100000", "enough round trips for a p99.9"},
      {"bandwidth", "vgpu-probe bandwidth --largest 64M", "up to copies of 64 MiB"},
      {"kernels", "vgpu-probe kernels", "after or while a program runs: where its time goes"},
      {"kernels", "vgpu-probe kernels --top 3 --details", "all that is known of the three slowest"},
      {"kernels", "vgpu-probe kernels --json | jq '.kernels[] | [.time_ns, .function]'",
       "for scripts; what took longest comes first"},
      {"topo", "vgpu-probe topo", "the machine, and where to run programs"},
      {"topo", "vgpu-probe topo --svg machine.svg", "the same as a drawing"},
      {"watch", "vgpu-probe watch", "all devices, live; h shows the keys"},
      {"watch", "vgpu-probe watch --count 10 | tee log", "ten lines a device, one a second"},
      {"dump", "vgpu-probe dump -o report.json", "everything, to attach to a bug report"},
      {"completion", "source <(vgpu-probe completion)", "in ~/.bashrc"},
      {"man", "vgpu-probe man | man -l -", "the manual, installed or not"},
  };
  return all;
}

CommandLine::CommandLine()
    : app_(std::make_unique<CLI::App>(
          "Looks at virtual GPUs, from a virtual machine or on the host: what is there, "
          "what it does, whether it works, how fast it is.",
          "vgpu-probe")) {
  request_.guests_directory = kDefaultGuestsDirectory;
  auto formatter = std::make_shared<Formatter>();
  formatter->column_width(26);
  app_->formatter(formatter);
  app_->set_version_flag("--version", VGPU_VERSION, "The version");
  app_->get_help_ptr()->description("This help");
  app_->require_subcommand(1);
  app_->footer(footer_of(""));
  enum Takes : unsigned { kNothing = 0, kDevice = 1, kJson = 2, kGuests = 4 };
  const auto add = [this](const std::string& name, const char* description, unsigned takes) {
    auto* command = app_->add_subcommand(name, description);
    command->get_help_ptr()->description("This help");
    command->footer(footer_of(name));
    if ((takes & kDevice) != 0) {
      command->add_option(
          "device", request_.device,
          "A region file, a PCI address or a guest's name; default: VGPU_DEVICE, else the one that a "
          "CUDA program would use");
    }
    if ((takes & kJson) != 0) command->add_flag("--json", request_.json, "Answer in JSON (docs/probe.md)");
    if ((takes & kGuests) != 0) {
      command->add_option(
          "--guests-dir", request_.guests_directory,
          fmt::format("Where vgpu-device keeps guests' regions ({})", kDefaultGuestsDirectory));
    }
    return command;
  };
  constexpr unsigned kAll = kDevice | kJson | kGuests;
  add("list", "Every vGPU there is, and whether it can be used", kJson | kGuests);
  add("show",
      "Everything that can be told of a device without using it: header, state, heartbeat, channels and "
      "their owners, "
      "errors, memory, counters",
      kAll)
      ->add_flag("--all", all_channels_, "Free channels too");
  add("test", "Does the device work? A line for each check; status 0 if all passed. Safe on a device in use",
      kAll);
  add("latency", "How long a program waits for what it asks: percentiles, and a histogram of the round trip",
      kAll)
      ->add_option("--count", round_trips_, "Round trips to make (10000)")
      ->check(CLI::Range(1U, 100'000'000U).description(""));
  add("bandwidth", "Copies against their size, in both directions, by each mapping of the BAR", kAll)
      ->add_option("--largest", largest_, "Bytes of the largest copy, with K, M or G (16M)")
      ->transform(CLI::AsSizeValue(false).description(""))
      ->check(CLI::Range(uint64_t{64}, uint64_t{1} << 32).description(""));
  auto* kernels =
      add("kernels",
          "What ran since the device started: how often, how long, how it was compiled; what took "
          "longest first",
          kAll);
  kernels->add_option("--top", kernels_.most, "Show so many (20); 0: all");
  kernels->add_flag("--details", kernels_.details, "Everything known of each");
  add("topo", "The machine, where the device is in it, and which processors to use", kAll)
      ->add_option("--svg", svg_file_, "Draw it into this file; - is standard output");
  auto* watch = add("watch", "Devices and channels as they work; on a terminal a live view with keys", kAll);
  watch->add_option("--interval,-n", interval_, "Seconds between two looks (1)")
      ->check(CLI::Range(0.1, 3600.0).description(""));
  watch->add_option("--count,-c", looks_, "End after so many looks (0: never)");
  add("dump", "Everything in one JSON document for a bug report, and nothing secret in it", kDevice | kGuests)
      ->add_option("--output,-o", dump_file_, "The file to write; - is standard output (-)");
  add("completion", "A script that completes vgpu-probe's words in bash", kNothing);
  add("man", "This program's manual page", kNothing);
}

CommandLine::~CommandLine() = default;

int CommandLine::run(int argc, char** argv) {
  try {
    app_->parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app_->exit(error) == 0 ? 0 : 2;
  }
  return dispatch();
}

int CommandLine::dispatch() const {
  const std::string command = app_->get_subcommands().front()->get_name();
  if (command == "list") return list_devices(request_);
  if (command == "show") return show_device(request_, all_channels_);
  if (command == "test") return test_device(request_);
  if (command == "latency") return measure_latency(request_, round_trips_);
  if (command == "bandwidth") return measure_bandwidth(request_, largest_);
  if (command == "kernels") return show_kernels(request_, kernels_);
  if (command == "topo") return show_topology(request_, svg_file_);
  if (command == "watch") return watch_devices(request_, interval_, looks_);
  if (command == "dump") return dump_all(request_, dump_file_);
  fmt::print("{}", command == "man" ? manual_page(*app_) : bash_completion(*app_));
  return 0;
}

}  // namespace vgpu::tools
