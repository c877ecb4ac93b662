// Every export that has no implementation: counted, named in the log, and refused. Weak, so that a definition
// elsewhere in the library takes its place. The parameters do not matter to a function that reads none.
#include <cstdint>

#include "shim/session/log.h"

#define VGPU_EXPORT(name)                                           \
  extern "C" [[gnu::weak, gnu::visibility("default")]] int name() { \
    vgpu::shim::note_unimplemented(#name);                          \
    return 801; /* CUDA_ERROR_NOT_SUPPORTED */                      \
  }
#include "shim/cuda/exports.def"
#undef VGPU_EXPORT
