// See minimise.h.
#include "tests/device/software/fuzz/minimise.h"

#include <algorithm>
#include <functional>

#include "tests/device/software/fuzz/dice.h"
#include "tests/device/software/fuzz/switches.h"

namespace vgpu::testing::fuzz {

FuzzCase minimise(Generated failing, Verdict verdict, Differ& differ, std::chrono::seconds budget) {
  const auto end = std::chrono::steady_clock::now() + budget;
  FuzzCase& shape = failing.shape;
  const auto still_fails = [&] {
    shape.ptx = failing.program.text();
    return differ.compare(shape).verdict == verdict;
  };
  const auto in_time = [&] { return std::chrono::steady_clock::now() < end; };
  // Halves, quarters, … of what is left, then each alone.
  for (bool progress = true; progress && in_time();) {
    progress = false;
    std::size_t count = failing.program.droppable().size();
    for (std::size_t size = std::max<std::size_t>(1, count / 2); size > 0 && in_time(); size /= 2) {
      auto list = failing.program.droppable();
      for (std::size_t at = 0; at < list.size() && in_time(); at += size) {
        const std::size_t last = std::min(at + size, list.size());
        std::vector<Statement*> tried;
        for (std::size_t i = at; i < last; ++i) {
          if (list[i]->dropped) continue;
          list[i]->dropped = true;
          tried.push_back(list[i]);
        }
        if (tried.empty()) continue;
        if (still_fails()) {
          progress = true;
        } else {
          for (Statement* statement : tried) statement->dropped = false;
        }
      }
    }
  }
  const auto try_shape = [&](const std::function<void(FuzzCase&)>& change) {
    const FuzzCase before = shape;
    change(shape);
    if (!in_time() || !still_fails()) shape = before;
  };
  try_shape([](FuzzCase& test) { test.grid = {1, 1, 1}; });
  try_shape([](FuzzCase& test) { test.switched_off.clear(); });
  for (int i = 0; i < 5; ++i) {
    try_shape([](FuzzCase& test) {
      if (test.block[0] % 64 == 0) test.block[0] /= 2;
      if (test.block[0] % 32 == 0 && test.block[1] > 1) test.block[1] = (test.block[1] + 1) / 2;
    });
  }
  shape.ptx = failing.program.text();
  return shape;
}

Generated generate_with_switches(std::uint64_t seed) {
  Generated made = generate(seed);
  Dice dice(seed + 77);
  if (dice.chance(40)) return made;  // everything on
  const std::uint32_t percent = dice.chance(20) ? 100 : 35;
  for (const Switch& each : switches()) {
    if (dice.chance(percent)) made.shape.switched_off.emplace_back(each.name);
  }
  return made;
}

std::string Finding::report() const {
  static constexpr const char* kNames[] = {"agrees", "is not valid", "is refused", "gives other results"};
  return Text{"The kernel of seed ",
              smallest.seed,
              " ",
              kNames[static_cast<std::size_t>(verdict)],
              ":\n",
              what,
              "To keep it as a test, put these lines into tests/device/software/fuzz/regressions/NAME.ptx:\n",
              smallest.text()};
}

Finding fuzz_one(std::uint64_t seed, Differ& differ, std::chrono::seconds budget) {
  Generated made = generate_with_switches(seed);
  made.shape.ptx = made.program.text();
  const Comparison first = differ.compare(made.shape);
  Finding finding;
  finding.verdict = first.verdict;
  if (first.verdict == Verdict::kSame) return finding;
  finding.smallest = minimise(std::move(made), first.verdict, differ, budget);
  finding.what = differ.compare(finding.smallest).what;
  if (!finding.what.ends_with('\n')) finding.what += '\n';
  return finding;
}

}  // namespace vgpu::testing::fuzz
