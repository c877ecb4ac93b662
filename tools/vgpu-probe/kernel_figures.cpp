// The device's figures of kernels.
#include "tools/vgpu-probe/kernel_figures.h"

#include <cxxabi.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

namespace vgpu::tools {
namespace {

// "name value" of one line.
void add_count(std::vector<std::pair<std::string, uint64_t>>& counts, std::string_view line) {
  const auto space = line.find(' ');
  if (space == 0 || space == std::string_view::npos) return;
  uint64_t value = 0;
  const std::string_view digits = line.substr(space + 1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size()) return;
  counts.emplace_back(line.substr(0, space), value);
}

// Where the parameter list at the end of a declaration begins; npos: there is none.
std::size_t parameter_list(std::string_view declaration) {
  if (!declaration.ends_with(')')) return std::string_view::npos;
  int open = 0;
  for (std::size_t at = declaration.size(); at-- > 0;) {
    if (declaration[at] == ')') ++open;
    if (declaration[at] == '(' && --open == 0) return at;
  }
  return std::string_view::npos;
}

}  // namespace

uint64_t KernelFigures::count(std::string_view which) const noexcept {
  const auto found = std::ranges::find(counts, which, &std::pair<std::string, uint64_t>::first);
  return found == counts.end() ? 0 : found->second;
}

std::string function_of(const std::string& name) {
  if (!name.starts_with("_Z")) return name;
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> plain(
      abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), &std::free);
  if (!plain) return name;
  std::string_view declaration = plain.get();
  declaration = declaration.substr(0, parameter_list(declaration));
  // Kernels return nothing; templates' names say so.
  constexpr std::string_view kReturns = "void ";
  if (declaration.starts_with(kReturns)) declaration.remove_prefix(kReturns.size());
  return declaration.empty() ? name : std::string(declaration);
}

KernelFigures kernel_figures(const protocol::KernelFiguresReply& reply, std::span<const std::byte> text) {
  KernelFigures kernel{.figures = reply, .name = {}, .function = {}, .counts = {}};
  std::string_view rest(reinterpret_cast<const char*>(text.data()), text.size());
  kernel.name = rest.substr(0, reply.name_bytes);
  rest.remove_prefix(kernel.name.size());
  rest = rest.substr(0, reply.count_bytes);
  while (!rest.empty()) {
    const auto end = std::min(rest.find('\n'), rest.size());
    add_count(kernel.counts, rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  kernel.function = function_of(kernel.name);
  return kernel;
}

nlohmann::ordered_json kernel_json(const KernelFigures& kernel) {
  const auto& figures = kernel.figures;
  nlohmann::ordered_json json = {{"name", kernel.name},
                                 {"function", kernel.function},
                                 {"block", {figures.block_x, figures.block_y, figures.block_z}},
                                 {"launches", figures.launches},
                                 {"blocks", figures.blocks},
                                 {"time_ns", figures.time},
                                 {"longest_ns", figures.longest},
                                 {"least_block_ps", figures.least_block},
                                 {"compiled", figures.compiled},
                                 {"from_cache", figures.from_cache},
                                 {"compile_ns", figures.compile_time},
                                 {"generic_warps", figures.generic_warps}};
  auto& counts = json["counts"] = nlohmann::ordered_json::object();
  for (const auto& [name, value] : kernel.counts) counts[name] = value;
  return json;
}

}  // namespace vgpu::tools
