// Stream capture and graphs. Graphs are made by capturing; the calls that add single nodes are not supported.
#include "shim/cudart/runtime.h"

using namespace vgpu::shim::cudart;

namespace {

struct CaptureInfo {
  int* status;
  unsigned long long* id;
  cudaGraph_t* graph;
  const cudaGraphNode_t** dependencies;
  const void** edges;
  std::size_t* dependency_count;
};

cudaError_t capture_info(cudaStream_t stream, const CaptureInfo& out) noexcept {
  if (out.status == nullptr) return cudaErrorInvalidValue;
  cudaError_t error = cudaSuccess;
  const Driver* table = current(&error);
  if (table == nullptr) return error;
  std::uint64_t id = 0;
  CUresult result = CUDA_SUCCESS;
  if (out.edges != nullptr) {
    if (table->stream_get_capture_info_v3 == nullptr) return cudaErrorNotSupported;
    result = table->stream_get_capture_info_v3(stream, out.status, &id, out.graph, out.dependencies,
                                               out.edges, out.dependency_count);
  } else {
    if (table->stream_get_capture_info_v2 == nullptr) return cudaErrorNotSupported;
    result = table->stream_get_capture_info_v2(stream, out.status, &id, out.graph, out.dependencies,
                                               out.dependency_count);
  }
  if (result == CUDA_SUCCESS && out.id != nullptr) *out.id = id;
  return to_runtime(result);
}

}  // namespace

VGPU_CUDART_API cudaError_t cudaStreamBeginCapture(cudaStream_t stream, int mode) noexcept {
  return with_context<&Driver::stream_begin_capture>(stream, mode);
}
VGPU_CUDART_API cudaError_t cudaStreamBeginCapture_ptsz(cudaStream_t stream, int mode) noexcept {
  return cudaStreamBeginCapture(per_thread(stream), mode);
}
VGPU_CUDART_API cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) noexcept {
  return with_context<&Driver::stream_end_capture>(stream, graph);
}
VGPU_CUDART_API cudaError_t cudaStreamEndCapture_ptsz(cudaStream_t stream, cudaGraph_t* graph) noexcept {
  return cudaStreamEndCapture(per_thread(stream), graph);
}
VGPU_CUDART_API cudaError_t cudaStreamIsCapturing(cudaStream_t stream, int* status) noexcept {
  return with_context<&Driver::stream_is_capturing>(stream, status);
}
VGPU_CUDART_API cudaError_t cudaStreamIsCapturing_ptsz(cudaStream_t stream, int* status) noexcept {
  return cudaStreamIsCapturing(per_thread(stream), status);
}
VGPU_CUDART_API cudaError_t cudaThreadExchangeStreamCaptureMode(int* mode) noexcept {
  return with_context<&Driver::thread_exchange_stream_capture_mode>(mode);
}

#if VGPU_CUDART_GENERATION < 13
// CUDA 10 and 11 gave status and id alone; the same name in CUDA 12's library still does.
VGPU_CUDART_API cudaError_t cudaStreamGetCaptureInfo(cudaStream_t stream, int* status,
                                                     unsigned long long* id) noexcept {
  return keep(capture_info(stream, {status, id, nullptr, nullptr, nullptr, nullptr}));
}
VGPU_CUDART_API cudaError_t cudaStreamGetCaptureInfo_ptsz(cudaStream_t stream, int* status,
                                                          unsigned long long* id) noexcept {
  return cudaStreamGetCaptureInfo(per_thread(stream), status, id);
}
VGPU_CUDART_API cudaError_t cudaStreamGetCaptureInfo_v2(cudaStream_t stream, int* status,
                                                        unsigned long long* id, cudaGraph_t* graph,
                                                        const cudaGraphNode_t** nodes,
                                                        std::size_t* count) noexcept {
  return keep(capture_info(stream, {status, id, graph, nodes, nullptr, count}));
}
VGPU_CUDART_API cudaError_t cudaStreamGetCaptureInfo_v2_ptsz(cudaStream_t stream, int* status,
                                                             unsigned long long* id, cudaGraph_t* graph,
                                                             const cudaGraphNode_t** nodes,
                                                             std::size_t* count) noexcept {
  return cudaStreamGetCaptureInfo_v2(per_thread(stream), status, id, graph, nodes, count);
}
#define CAPTURE_INFO_WITH_EDGES cudaStreamGetCaptureInfo_v3
#define CAPTURE_INFO_WITH_EDGES_PTSZ cudaStreamGetCaptureInfo_v3_ptsz
#else
#define CAPTURE_INFO_WITH_EDGES cudaStreamGetCaptureInfo
#define CAPTURE_INFO_WITH_EDGES_PTSZ cudaStreamGetCaptureInfo_ptsz
#endif
VGPU_CUDART_API cudaError_t CAPTURE_INFO_WITH_EDGES(cudaStream_t stream, int* status, unsigned long long* id,
                                                    cudaGraph_t* graph, const cudaGraphNode_t** nodes,
                                                    const void** edges, std::size_t* count) noexcept {
  return keep(capture_info(stream, {status, id, graph, nodes, edges, count}));
}
VGPU_CUDART_API cudaError_t CAPTURE_INFO_WITH_EDGES_PTSZ(cudaStream_t stream, int* status,
                                                         unsigned long long* id, cudaGraph_t* graph,
                                                         const cudaGraphNode_t** nodes, const void** edges,
                                                         std::size_t* count) noexcept {
  return keep(capture_info(per_thread(stream), {status, id, graph, nodes, edges, count}));
}

VGPU_CUDART_API cudaError_t cudaGraphCreate(cudaGraph_t* graph, unsigned flags) noexcept {
  return with_context<&Driver::graph_create>(graph, flags);
}
VGPU_CUDART_API cudaError_t cudaGraphDestroy(cudaGraph_t graph) noexcept {
  return with_context<&Driver::graph_destroy>(graph);
}
VGPU_CUDART_API cudaError_t cudaGraphClone(cudaGraph_t* clone, cudaGraph_t graph) noexcept {
  return with_context<&Driver::graph_clone>(clone, graph);
}
VGPU_CUDART_API cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t* nodes,
                                              std::size_t* count) noexcept {
  return with_context<&Driver::graph_get_nodes>(graph, nodes, count);
}

VGPU_CUDART_API cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                                 unsigned long long flags) noexcept {
  return with_context<&Driver::graph_instantiate_with_flags>(executable, graph, flags);
}
VGPU_CUDART_API cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* executable, cudaGraph_t graph,
                                                          unsigned long long flags) noexcept {
  return cudaGraphInstantiate(executable, graph, flags);
}
VGPU_CUDART_API cudaError_t cudaGraphInstantiateWithParams(cudaGraphExec_t* executable, cudaGraph_t graph,
                                                           cudaGraphInstantiateParams* parameters) noexcept {
  static_assert(sizeof(cudaGraphInstantiateParams) == sizeof(CUDA_GRAPH_INSTANTIATE_PARAMS));
  return with_context<&Driver::graph_instantiate_with_params>(executable, graph,
                                                              static_cast<void*>(parameters));
}
VGPU_CUDART_API cudaError_t cudaGraphInstantiateWithParams_ptsz(
    cudaGraphExec_t* executable, cudaGraph_t graph, cudaGraphInstantiateParams* parameters) noexcept {
  if (parameters == nullptr) return keep(cudaErrorInvalidValue);
  cudaGraphInstantiateParams own = *parameters;
  own.uploadStream = per_thread(own.uploadStream);
  const cudaError_t error = cudaGraphInstantiateWithParams(executable, graph, &own);
  parameters->errNode_out = own.errNode_out;
  parameters->result_out = own.result_out;
  return error;
}
VGPU_CUDART_API cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) noexcept {
  return with_context<&Driver::graph_launch>(executable, stream);
}
VGPU_CUDART_API cudaError_t cudaGraphLaunch_ptsz(cudaGraphExec_t executable, cudaStream_t stream) noexcept {
  return cudaGraphLaunch(executable, per_thread(stream));
}
VGPU_CUDART_API cudaError_t cudaGraphUpload(cudaGraphExec_t executable, cudaStream_t stream) noexcept {
  return with_context<&Driver::graph_upload>(executable, stream);
}
VGPU_CUDART_API cudaError_t cudaGraphUpload_ptsz(cudaGraphExec_t executable, cudaStream_t stream) noexcept {
  return cudaGraphUpload(executable, per_thread(stream));
}
VGPU_CUDART_API cudaError_t cudaGraphExecUpdate(cudaGraphExec_t executable, cudaGraph_t graph,
                                                cudaGraphExecUpdateResultInfo* result) noexcept {
  static_assert(sizeof(cudaGraphExecUpdateResultInfo) == sizeof(CUgraphExecUpdateResultInfo));
  if (result == nullptr) return keep(cudaErrorInvalidValue);
  return with_context<&Driver::graph_exec_update>(executable, graph, static_cast<void*>(result));
}
VGPU_CUDART_API cudaError_t cudaGraphExecGetFlags(cudaGraphExec_t executable,
                                                  unsigned long long* flags) noexcept {
  if (flags == nullptr) return keep(cudaErrorInvalidValue);
  std::uint64_t value = 0;
  const cudaError_t error = with_context<&Driver::graph_exec_get_flags>(executable, &value);
  if (error == cudaSuccess) *flags = value;
  return error;
}
VGPU_CUDART_API cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) noexcept {
  return with_context<&Driver::graph_exec_destroy>(executable);
}
