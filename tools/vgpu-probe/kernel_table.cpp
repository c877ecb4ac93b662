// vgpu-probe kernels: what ran on a device since it started, how long it took, and how its code was made.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "tools/vgpu-probe/answer.h"
#include "tools/vgpu-probe/client.h"
#include "tools/vgpu-probe/kernel_figures.h"
#include "tools/vgpu-probe/places.h"
#include "tools/vgpu-probe/probe.h"
#include "tools/vgpu-probe/report_text.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

using nlohmann::ordered_json;

constexpr uint32_t kMostKernels = 1U << 16;  // that are asked for
constexpr std::size_t kReplyBytes = 64U << 10;

struct Sums {
  uint64_t launches = 0;
  uint64_t time = 0;
  uint64_t compiled = 0;
  uint64_t from_cache = 0;
  uint64_t compile_time = 0;
};

// Those that took longest first.
Try<std::vector<KernelFigures>> ask_all(Client& client) {
  std::vector<KernelFigures> kernels;
  std::vector<std::byte> text(kReplyBytes);
  for (uint32_t index = 0; index < kMostKernels; ++index) {
    protocol::KernelFiguresReply reply;
    std::size_t more = 0;
    const auto status = client.session().call(protocol::KernelFiguresRequest{.index = index, .reserved = 0},
                                              reply, {}, text, &more);
    if (status != protocol::Status::kSuccess) {
      return std::unexpected(client.trouble("asking for the kernels", status));
    }
    if (index >= reply.kernels) break;
    kernels.push_back(kernel_figures(reply, std::span(text).first(std::min(more, text.size()))));
  }
  std::ranges::sort(kernels, std::ranges::greater(),
                    [](const KernelFigures& kernel) { return kernel.figures.time; });
  return kernels;
}

Sums sum(const std::vector<KernelFigures>& kernels) {
  Sums sums;
  for (const auto& [figures, name, function, counts] : kernels) {
    sums.launches += figures.launches;
    sums.time += figures.time;
    sums.compiled += figures.compiled;
    sums.from_cache += figures.from_cache;
    sums.compile_time += figures.compile_time;
  }
  return sums;
}

uint64_t each(uint64_t total, uint64_t number) {
  return number == 0 ? 0 : total / number;
}

bool has_code(const KernelFigures& kernel) {
  return kernel.figures.compiled + kernel.figures.from_cache != 0;
}

std::string block_text(const protocol::KernelFiguresReply& figures) {
  std::string text = fmt::format("{}", figures.block_x);
  if (figures.block_y > 1 || figures.block_z > 1) text += fmt::format(" x {}", figures.block_y);
  if (figures.block_z > 1) text += fmt::format(" x {}", figures.block_z);
  return text;
}

// The numbers of the bits that are set.
std::string bits_text(uint64_t bits) {
  std::vector<int> numbers;
  for (; bits != 0; bits &= bits - 1) numbers.push_back(std::countr_zero(bits));
  return fmt::format("{}", fmt::join(numbers, ", "));
}

void print_name(const KernelFigures& kernel) {
  const std::string threads =
      kernel.figures.block_x == 0 ? "" : fmt::format(", {} threads", block_text(kernel.figures));
  const std::size_t width = terminal_width();
  const std::string name = cut(printable(kernel.function), width - std::min(width / 2, threads.size()));
  fmt::print("{}{}\n", tinted(name, Tone::kBold), threads);
}

void print_row(const KernelFigures& kernel, uint64_t all_time) {
  const auto& figures = kernel.figures;
  fmt::print("{:>9}{:>4} %{:>11}{:>9}", duration_text(figures.time),
             each(figures.time * 100 + all_time / 2, all_time), number_text(figures.launches),
             duration_text(each(figures.time, figures.launches)));
  if (!has_code(kernel)) {
    fmt::print("\n");
    return;
  }
  const std::string block = figures.least_block == 0
                                ? ""
                                : duration_text(std::max<uint64_t>(1, (figures.least_block + 500) / 1000));
  fmt::print("{:>9}{:>9}{:>7}{:>5}{:>5}{:>7}\n", block, duration_text(figures.compile_time),
             kernel.count("loads_uniform"), kernel.count("loads_contiguous"), kernel.count("loads_windowed"),
             kernel.count("loads_gathered"));
}

void print_details(const KernelFigures& kernel) {
  const auto& figures = kernel.figures;
  print_field("longest launch", duration_text(figures.longest));
  if (!has_code(kernel)) return;
  print_field("blocks", fmt::format("{}, {} a launch", number_text(figures.blocks),
                                    number_text(each(figures.blocks, figures.launches))));
  print_field("code", fmt::format("compiled {} times, {} times from the cache", figures.compiled,
                                  figures.from_cache));
  print_field(
      "loads",
      fmt::format(
          "{} of one place, {} of a row, {} by windows (which took {} loads), {} transposed, {} gathered",
          kernel.count("loads_uniform"), kernel.count("loads_contiguous"), kernel.count("loads_windowed"),
          kernel.count("window_loads"), kernel.count("loads_transposed"), kernel.count("loads_gathered")));
  print_field("stores", fmt::format("{} of a row, {} scattered", kernel.count("stores_contiguous"),
                                    kernel.count("stores_scattered")));
  print_field("branches",
              fmt::format("{}; lanes may part at {}, and are checked to agree at {}: {} warps went on masked",
                          kernel.count("branches"), kernel.count("branches_parting"),
                          kernel.count("branches_converging"), number_text(kernel.count("masked_warps"))));
  print_field("guards", fmt::format("{}; {} warps ran by the generic copy", kernel.count("guards"),
                                    number_text(figures.generic_warps)));
  if (const uint64_t words = kernel.count("null_words"); words != 0)
    print_field("null parameters",
                fmt::format("compiled for launches where the 64-bit words {} of the parameters are 0",
                            bits_text(words)));
  static constexpr std::array kShown = {
      "loads_uniform",     "loads_contiguous", "loads_windowed",   "window_loads",     "loads_gathered",
      "stores_contiguous", "stores_scattered", "branches",         "branches_parting", "branches_converging",
      "masked_warps",      "guards",           "loads_transposed", "null_words"};
  for (const auto& [name, value] : kernel.counts) {
    if (std::ranges::find(kShown, name) == kShown.end()) print_field(printable(name), number_text(value));
  }
}

void print_all(const std::string& where, const std::vector<KernelFigures>& kernels,
               const KernelOptions& options) {
  const Sums sums = sum(kernels);
  if (kernels.empty()) {
    fmt::print("{}", paragraph(0, "", 0, fmt::format("nothing has run on {} since it started", where)));
    return;
  }
  fmt::print("{}", paragraph(0, "", 0,
                             fmt::format("{}: {} launches in {} since the device started", where,
                                         number_text(sums.launches), duration_text(sums.time))));
  fmt::print(
      "{}", paragraph(0, "", 0,
                      fmt::format("{} compiled and {} taken from the cache in {}", number_text(sums.compiled),
                                  number_text(sums.from_cache), duration_text(sums.compile_time))));
  fmt::print("\n{:>9}{:>6}{:>11}{:>9}{:>9}{:>9}{:>7}{:>5}{:>5}{:>7}\n", "", "", "", "", "a block", "",
             "loads", "", "", "");
  fmt::print("{:>9}{:>6}{:>11}{:>9}{:>9}{:>9}{:>7}{:>5}{:>5}{:>7}\n", "time", "", "launches", "each",
             "at best", "compile", "same", "row", "win", "gather");
  const std::size_t shown = options.most == 0 ? kernels.size() : std::min(options.most, kernels.size());
  for (const auto& kernel : std::span(kernels).first(shown)) {
    print_name(kernel);
    print_row(kernel, sums.time);
    if (options.details) print_details(kernel);
  }
  if (shown < kernels.size()) {
    uint64_t time = 0;
    for (const auto& kernel : std::span(kernels).subspan(shown)) time += kernel.figures.time;
    fmt::print("{}", paragraph(0, "", 0,
                               fmt::format("and {} more, {} together: --top 0 shows all",
                                           kernels.size() - shown, duration_text(time))));
  }
}

int fail(const Trouble& trouble, bool json) {
  return answer_failure(trouble.advice.empty() ? trouble.text : trouble.text + "; " + trouble.advice, json);
}

}  // namespace

int show_kernels(const Request& request, const KernelOptions& options) {
  const auto place = choose_place(request.device, request.guests_directory, Use::kProgram);
  if (!place) return answer_failure(place.error(), request.json);
  end_cleanly_on_lost_memory();
  auto client = Client::open(place->location);
  if (!client) return fail(client.error(), request.json);
  const auto kernels = ask_all(**client);
  if (!kernels) return fail(kernels.error(), request.json);
  if (!request.json) {
    print_all(printable(place->name()), *kernels, options);
    return 0;
  }
  const Sums sums = sum(*kernels);
  ordered_json answer = {{"path", place->location.path},  {"launches", sums.launches},
                         {"time_ns", sums.time},          {"compiled", sums.compiled},
                         {"from_cache", sums.from_cache}, {"compile_ns", sums.compile_time}};
  auto& list = answer["kernels"] = ordered_json::array();
  for (const auto& kernel : *kernels) list.push_back(kernel_json(kernel));
  answer_json(answer);
  return 0;
}

}  // namespace vgpu::tools
