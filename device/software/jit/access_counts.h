// What the code generator made of a kernel: how often each way of emitting was taken, counted in instructions
// of the kernel's form (not in executions). Kept beside the code in the disk cache.
#pragma once

#include <cstdint>

namespace vgpu::software::jit {

struct AccessCounts {
  std::uint32_t loads_uniform = 0;      // all lanes the same place: one scalar load
  std::uint32_t loads_contiguous = 0;   // lanes side by side: one wide load
  std::uint32_t loads_windowed = 0;     // constant distances: wide loads and permutes
  std::uint32_t loads_gathered = 0;     // anything else
  std::uint32_t window_loads = 0;       // wide loads that the windowed ones took, shared ones once
  std::uint32_t stores_contiguous = 0;  // or to one place
  std::uint32_t stores_scattered = 0;
  std::uint32_t branches = 0;             // conditional ones
  std::uint32_t branches_parting = 0;     // those at which lanes may part
  std::uint32_t guards = 0;               // indices whose wrapping is checked
  std::uint32_t branches_converging = 0;  // those at which lanes are checked to agree; not among the parting
  std::uint32_t prefetches = 0;           // loads that also fetch what later blocks may load
  std::uint32_t loads_transposed = 0;     // words of lanes far apart: a wide load for each lane, and shuffles
  std::uint32_t barriers_skipped = 0;     // by threads that would only end behind them
  std::uint32_t rows_checked = 0;         // accesses of lanes that may turn out to lie side by side
  std::uint32_t null_params = 0;          // loads of parameters that are null
};
static_assert(sizeof(AccessCounts) == 64);

// What vgpu-probe calls them (docs/probe.md), in the order in which it shows them.
struct AccessName {
  const char* name;
  std::uint32_t AccessCounts::* member;
};
inline constexpr AccessName kAccessNames[] = {
    {"loads_uniform", &AccessCounts::loads_uniform},
    {"loads_contiguous", &AccessCounts::loads_contiguous},
    {"loads_windowed", &AccessCounts::loads_windowed},
    {"window_loads", &AccessCounts::window_loads},
    {"loads_transposed", &AccessCounts::loads_transposed},
    {"loads_gathered", &AccessCounts::loads_gathered},
    {"stores_contiguous", &AccessCounts::stores_contiguous},
    {"stores_scattered", &AccessCounts::stores_scattered},
    {"branches", &AccessCounts::branches},
    {"branches_parting", &AccessCounts::branches_parting},
    {"branches_converging", &AccessCounts::branches_converging},
    {"guards", &AccessCounts::guards},
    {"prefetches", &AccessCounts::prefetches},
    {"barriers_skipped", &AccessCounts::barriers_skipped},
    {"rows_checked", &AccessCounts::rows_checked},
    {"null_params", &AccessCounts::null_params},
};

}  // namespace vgpu::software::jit
