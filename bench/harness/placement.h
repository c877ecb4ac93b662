// Which two cores a benchmark's two sides run on, by what they share (hwloc), and pinning. A machine need not
// have every kind of pair: then there is none, and the cases that ask for it are skipped with a word.
#pragma once

#include <sched.h>

#include <array>
#include <optional>
#include <string_view>

namespace vgpu::bench {

// Processor numbers as the kernel counts them.
struct CorePair {
  int first = 0;
  int second = 0;
};

enum class Placement { kSameCore, kSameCache, kFar };
inline constexpr std::array kPlacements{Placement::kSameCore, Placement::kSameCache, Placement::kFar};
// "same_core", "same_cache", "far".
std::string_view placement_name(Placement placement) noexcept;

// Only processors that this process may use count.
struct Placements {
  std::optional<CorePair> same_core;   // two threads of one core
  std::optional<CorePair> same_cache;  // two cores below one last-level cache
  std::optional<CorePair> far;         // no cache in common; of several such, on different NUMA nodes
  const std::optional<CorePair>& operator[](Placement placement) const noexcept;
  // The nearest pair of two whole cores: same_cache, else far, else same_core.
  std::optional<CorePair> usual() const noexcept;
};
// Looked up once; thread-safe.
const Placements& placements();

// Holds the calling thread on one processor until it is destroyed. ok() is false where the kernel refused.
class Pinned {
 public:
  explicit Pinned(int processor) noexcept;
  ~Pinned();
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  bool ok() const noexcept { return ok_; }

 private:
  cpu_set_t before_;
  bool ok_ = false;
};

// The same for good: for a child process's first line.
bool pin_this_thread(int processor) noexcept;

}  // namespace vgpu::bench
