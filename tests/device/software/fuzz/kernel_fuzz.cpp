// kernel_fuzz [--seed N] [--seconds N] [--count N] [--keep FOLDER] [--minimise SECONDS]: random kernels from
// seed N on, compiled and by the oracle, until the time or the count is over; failures are minimised and
// printed, and kept as files. kernel_fuzz --print N: the kernel of a seed. kernel_fuzz FILE…: runs files as
// --keep writes them.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/device/software/fuzz/minimise.h"

int main(int argc, char** argv) {
  using namespace vgpu::testing::fuzz;
  using Clock = std::chrono::steady_clock;
  std::uint64_t seed = 1;
  std::uint64_t count = UINT64_MAX;
  long seconds = 60;
  long budget = 60;
  std::string keep;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const char* value = i + 1 < argc ? argv[i + 1] : "";
    if (!word.starts_with("--")) {
      files.push_back(word);
      continue;
    }
    ++i;
    if (word == "--seed") {
      seed = std::strtoull(value, nullptr, 10);
    } else if (word == "--seconds") {
      seconds = std::strtol(value, nullptr, 10);
    } else if (word == "--count") {
      count = std::strtoull(value, nullptr, 10);
    } else if (word == "--minimise") {
      budget = std::strtol(value, nullptr, 10);
    } else if (word == "--keep") {
      keep = value;
    } else if (word == "--print") {
      Generated made = generate_with_switches(std::strtoull(value, nullptr, 10));
      made.shape.ptx = made.program.text();
      std::fputs(made.shape.text().c_str(), stdout);
      return 0;
    } else {
      std::fprintf(stderr, "%s: unknown option %s; the head of kernel_fuzz.cpp tells the options\n", argv[0],
                   word.c_str());
      return 2;
    }
  }
  Differ differ;
  if (!differ.problem().empty()) {
    std::fprintf(stderr, "%s\n", differ.problem().c_str());
    return 2;
  }
  std::uint64_t failures = 0;
  for (const std::string& file : files) {
    std::ifstream input(file);
    const std::string text{std::istreambuf_iterator<char>(input), {}};
    const auto test = FuzzCase::parse(text);
    if (!test) {
      std::fprintf(stderr, "%s: %s\n", file.c_str(), test.error().c_str());
      return 2;
    }
    const Comparison result = differ.compare(*test);
    if (result.verdict != Verdict::kSame) ++failures;
    std::printf("%s: %s\n", file.c_str(), result.verdict == Verdict::kSame ? "agrees" : result.what.c_str());
  }
  if (!files.empty()) return failures == 0 ? 0 : 1;

  const auto start = Clock::now();
  std::uint64_t done = 0;
  for (; done < count && Clock::now() - start < std::chrono::seconds(seconds); ++done, ++seed) {
    const Finding finding = fuzz_one(seed, differ, std::chrono::seconds(budget));
    if (finding.verdict == Verdict::kSame) continue;
    ++failures;
    std::printf("%s\n", finding.report().c_str());
    std::fflush(stdout);
    if (!keep.empty())
      std::ofstream(keep + "/seed" + std::to_string(finding.smallest.seed) + ".ptx")
          << finding.smallest.text();
  }
  const double taken = std::chrono::duration<double>(Clock::now() - start).count();
  std::printf("%llu kernels in %.1f s, %llu failed; the next seed is %llu\n",
              static_cast<unsigned long long>(done), taken, static_cast<unsigned long long>(failures),
              static_cast<unsigned long long>(seed));
  return failures == 0 ? 0 : 1;
}
