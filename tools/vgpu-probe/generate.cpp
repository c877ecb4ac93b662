// The completion script and the manual page, from the commands and options that CLI11 knows.
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "tools/vgpu-probe/cli.h"
#include "tools/vgpu-probe/places.h"

namespace vgpu::tools {
namespace {

std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const auto& name : option.get_snames()) names.push_back("-" + name);
  for (const auto& name : option.get_lnames()) names.push_back("--" + name);
  return names;
}

bool takes_a_device(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    if (option->get_positional()) return true;
  }
  return false;
}

std::string option_words(const CLI::App& command) {
  std::string words;
  for (const CLI::Option* option : command.get_options()) {
    for (const auto& name : names_of(*option)) words += (words.empty() ? "" : " ") + name;
  }
  return words;
}

// Text for troff: no line begins with a control character, and backslashes and minus signs are themselves.
std::string roff(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    if (c == '\\') {
      safe += "\\e";
    } else if (c == '-') {
      safe += "\\-";
    } else if (c == '\'') {
      safe += "\\(aq";
    } else {
      safe += c;
    }
  }
  return safe.starts_with('.') ? "\\&" + safe : safe;
}

std::string options_page(const CLI::App& command) {
  std::string page;
  for (const CLI::Option* option : command.get_options()) {
    std::string names;
    if (option->get_positional()) {
      names = "\\fI" + roff(option->get_name(true)) + "\\fR";
    } else {
      for (const auto& name : names_of(*option)) {
        names += (names.empty() ? "\\fB" : ", \\fB") + roff(name) + "\\fR";
      }
      if (option->get_items_expected_max() > 0) names += " \\fIVALUE\\fR";
    }
    page += fmt::format(".TP\n{}\n{}.\n", names, roff(option->get_description()));
  }
  return page;
}

}  // namespace

std::string bash_completion(const CLI::App& app) {
  std::string commands;
  std::string cases;
  std::string with_device;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    commands += (commands.empty() ? "" : " ") + command->get_name();
    cases += fmt::format("    {}) options=\"{}\" ;;\n", command->get_name(), option_words(*command));
    if (takes_a_device(*command)) with_device += (with_device.empty() ? "" : "|") + command->get_name();
  }
  std::string script = R"(# bash completion of vgpu-probe, printed by `vgpu-probe completion`
_vgpu_probe() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]} options=
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    mapfile -t COMPREPLY < <(compgen -W "@commands@ @options@" -- "$word")
    return
  fi
  case $before in
    --svg | --output | -o) mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    --guests-dir) mapfile -t COMPREPLY < <(compgen -d -- "$word"); return ;;
    --count | -c | --interval | -n | --largest) return ;;
  esac
  case $command in
@cases@  esac
  if [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$word")
    return
  fi
  case $command in
    @with_device@)
      local devices=() file function
      for file in /dev/shm/vgpu-[0-9]* /dev/shm/vgpu-run-*; do
        [[ -f $file ]] && devices+=("$file")
      done
      for file in @guests@/*.bar; do
        [[ -f $file ]] && file=${file##*/} && devices+=("${file%.bar}")
      done
      for function in /sys/bus/pci/devices/*; do
        [[ -r $function/vendor && $(<"$function/vendor") == 0x1af4 && $(<"$function/device") == 0x1110 ]] &&
          devices+=("${function##*/}")
      done
      # A colon would cut the word for readline.
      [[ $COMP_WORDBREAKS == *:* ]] && COMP_WORDBREAKS=${COMP_WORDBREAKS//:/}
      mapfile -t COMPREPLY < <(compgen -W "${devices[*]}" -- "$word"; compgen -f -- "$word")
      ;;
  esac
}
complete -o filenames -F _vgpu_probe vgpu-probe
)";
  const auto fill_in = [&script](std::string_view mark, std::string_view text) {
    script.replace(script.find(mark), mark.size(), text);
  };
  fill_in("@commands@", commands);
  fill_in("@options@", option_words(app));
  fill_in("@cases@", cases);
  fill_in("@with_device@", with_device);
  fill_in("@guests@", kDefaultGuestsDirectory);
  return script;
}

std::string manual_page(const CLI::App& app) {
  std::string page = fmt::format(".TH VGPU\\-PROBE 1 \"\" \"vgpu {}\" \"User Commands\"\n", VGPU_VERSION);
  page += ".SH NAME\nvgpu\\-probe \\- look at virtual GPUs, test them, measure them\n";
  page += ".SH SYNOPSIS\n.B vgpu\\-probe\n.I COMMAND\n[\\fIDEVICE\\fR] [\\fIOPTION\\fR]...\n";
  page += fmt::format(".SH DESCRIPTION\n{}\n.PP\n", roff(app.get_description()));
  page += roff(
      "The commands list, show, topo, watch and dump only read: they take no lock, wake nobody, and work "
      "whether the "
      "device process lives, is dead, or left rubbish behind. The commands test, latency and bandwidth take "
      "one "
      "free channel, as a CUDA program does, and little memory.");
  page += "\n.SH OPTIONS\n" + options_page(app);
  page += ".SH COMMANDS\n";
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    page +=
        fmt::format(".SS vgpu\\-probe {}{}\n{}.\n", command->get_name(),
                    takes_a_device(*command) ? " [\\fIDEVICE\\fR]" : "", roff(command->get_description()));
    page += options_page(*command);
  }
  page +=
      ".SH EXIT STATUS\n.TP\n0\nThe question was answered; of test: every check passed; of list: a device "
      "can be "
      "used.\n.TP\n1\nThere is nothing to tell, something is wrong, or a check failed.\n.TP\n2\nThe command "
      "line "
      "makes no sense.\n";
  page +=
      ".SH ENVIRONMENT\n.TP\nVGPU_DEVICE\nThe device: a path or a PCI address, as for CUDA programs.\n.TP\n"
      "NO_COLOR\nIf it is not empty: no colours, on a terminal either.\n.TP\nVGPU_LOG\nOf test, latency and "
      "bandwidth: where the log of the client goes, such as stderr or stderr,trace.\n";
  page += fmt::format(
      ".SH FILES\n.TP\n/dev/shm/vgpu\\-UID\nA user's region on one host.\n.TP\n{}/NAME.bar\nThe region "
      "of a virtual machine, seen from the host.\n.TP\n/sys/bus/pci/devices/ADDRESS/resource2, "
      "resource2_wc\nThe region in a virtual machine.\n",
      roff(kDefaultGuestsDirectory));
  page += ".SH EXAMPLES\n";
  for (const auto& example : examples()) {
    // Those of the program itself come again with their commands.
    if (*example.command == '\0') continue;
    page += fmt::format(".TP\n.B {}\n{}\n", roff(example.line), roff(example.meaning));
  }
  page += ".SH SEE ALSO\nlspci(8), nvidia\\-smi(1), numactl(8), docs/probe.md and docs/vm.md of vgpu\n";
  return page;
}

}  // namespace vgpu::tools
