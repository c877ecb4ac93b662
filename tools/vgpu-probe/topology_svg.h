// The machine drawn as nested boxes, its vGPUs and the recommended processors marked.
#pragma once

#include <string>

#include "pci/topology.h"
#include "tools/vgpu-probe/pinning.h"

namespace vgpu::tools {

// A whole SVG document. `pinning` may be nullptr.
std::string topology_svg(const pci::MachinePart& machine, const Pinning* pinning);

}  // namespace vgpu::tools
