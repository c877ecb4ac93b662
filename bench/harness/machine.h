// What a result must say of where it was measured: the machine, and the build. As JSON, in the shape that
// scripts/bench reads.
#pragma once

#include <nlohmann/json_fwd.hpp>

namespace vgpu::bench {

// cpu, cores (that this process may use), kernel, memory_bytes, caches, numa_nodes, hypervisor, clock,
// placements.
nlohmann::json machine_facts();

// commit, dirty, compiler, build_type: of the sources this program was built from, as git saw them then.
nlohmann::json build_facts();

}  // namespace vgpu::bench
