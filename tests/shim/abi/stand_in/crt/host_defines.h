// Stands in for the header of NVIDIA's compiler package that the runtime's headers include: the markers it
// defines mean nothing to a host compiler.
#pragma once
#define __host__
#define __device__
#define __global__
#define __shared__
#define __constant__
#define __managed__
#define __device_builtin__
#define __device_builtin_texture_type__
#define __device_builtin_surface_type__
#define __cudart_builtin__
#define __builtin_align__(n) __attribute__((aligned(n)))
#define __align__(n) __attribute__((aligned(n)))
#define __forceinline__ inline
#define __no_return__
#define __location__(a)
#define CUDARTAPI
#define CUDARTAPI_CDECL
#define CUDACB
#define __specialization_static static
