// Graphs: lists of steps in an order that satisfies their dependencies. A launch puts them into the ring as
// one batch.
#include <cstdio>

#include "shim/cuda/abi_edge.h"
#include "shim/cuda/copy.h"

using namespace vgpu::shim;

namespace {

constexpr uint64_t kInstantiateFlags = CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH |
                                       CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD |
                                       CUDA_GRAPH_INSTANTIATE_FLAG_USE_NODE_PRIORITY;

// Nodes are named by their graph and their place in it.
constexpr uint64_t kNodeIndexBits = 24;
CUgraphNode node_handle(const Graph& graph, std::size_t index) {
  return as_handle<CUgraphNode>((uint64_t{graph.id} << kNodeIndexBits | (index + 1)) << 4);
}
const GraphStep* step_of(CUgraphNode node) {
  const auto value = static_cast<uint64_t>(reinterpret_cast<uintptr_t>(node)) >> 4;
  const auto index = value & ((1u << kNodeIndexBits) - 1);
  const GraphStep* found = nullptr;
  Driver::get().graphs.for_each([&](Graph& graph) {
    if (graph.id == value >> kNodeIndexBits && index != 0 && index <= graph.steps.size()) {
      found = &graph.steps[index - 1];
    }
  });
  return found;
}

CUresult instantiate(CUgraphExec* result, CUgraph handle, uint64_t flags) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Driver& driver = Driver::get();
  const Graph* graph = driver.graphs.find(handle);
  if (result == nullptr || graph == nullptr ||
      (flags & ~(kInstantiateFlags | CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH)) != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  if ((flags & CUDA_GRAPH_INSTANTIATE_FLAG_DEVICE_LAUNCH) != 0) {
    return CUDA_ERROR_NOT_SUPPORTED;
  }
  GraphExec* exec = driver.graph_execs.create();
  if (exec == nullptr) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  exec->steps = graph->steps;
  exec->flags = flags;
  exec->context = entry.context->handle;
  *result = as_handle<CUgraphExec>(exec->handle);
  return CUDA_SUCCESS;
}

Rows rows_of(const GraphStep& step) {
  return {.destination = step.destination,
          .destination_pitch = step.destination_pitch,
          .source = step.source,
          .source_pitch = step.source_pitch,
          .width = step.width,
          .height = step.height};
}

// A step that needs the host at the time of the launch.
CUresult run_on_host(const Entry& entry, Stream& stream, const GraphStep& step) {
  switch (step.type) {
    case GraphStep::Type::kCommand:
      return CUDA_SUCCESS;
    case GraphStep::Type::kHostToDevice:
      return copy_to_device(entry, stream, rows_of(step));
    case GraphStep::Type::kDeviceToHost:
      return copy_to_host(entry, stream, rows_of(step));
    case GraphStep::Type::kHostToHost:
    case GraphStep::Type::kHostFunction:
      break;
  }
  const CUresult result = synchronize(*entry.session, entry.session->submitted());
  if (result == CUDA_SUCCESS) {
    if (step.type == GraphStep::Type::kHostToHost) {
      copy_on_host(rows_of(step));
    } else {
      step.host_function(step.host_data);
    }
  }
  return result;
}

CUresult launch(CUgraphExec handle, CUstream stream_handle, NullStream meaning) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Driver& driver = Driver::get();
  GraphExec* exec = driver.graph_execs.find(handle);
  if (exec == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Stream* stream = nullptr;
  if (const CUresult result = resolve_stream(entry, stream_handle, meaning, stream); result != CUDA_SUCCESS) {
    return result;
  }
  const std::lock_guard guard(exec->mutex);
  if (stream->capturing) {  // a child graph: its steps become steps of the graph that is captured
    for (const GraphStep& step : exec->steps) {
      if (const CUresult result = capture_step(*stream, step); result != CUDA_SUCCESS) {
        return result;
      }
    }
    return CUDA_SUCCESS;
  }
  std::size_t next = 0;
  while (next < exec->steps.size()) {
    if (exec->steps[next].type != GraphStep::Type::kCommand) {
      if (const CUresult result = run_on_host(entry, *stream, exec->steps[next]); result != CUDA_SUCCESS) {
        return result;
      }
      ++next;
      continue;
    }
    const std::size_t first = next;
    uint64_t end = 0;
    {
      Session::Batch batch(*entry.session);
      for (; next < exec->steps.size() && exec->steps[next].type == GraphStep::Type::kCommand; ++next) {
        const GraphStep& step = exec->steps[next];
        if (const auto status = batch.add(step.opcode, stream->device_id, step.body);
            status != vgpu::protocol::Status::kSuccess) {
          return to_result(status);
        }
      }
      end = batch.end();
    }
    stream->advance(end);
    for (std::size_t i = first; i < next; ++i) {
      if (exec->steps[i].node_type == CU_GRAPH_NODE_TYPE_EVENT_RECORD) {
        if (Event* event = driver.events.find(exec->steps[i].event)) {
          event->known_to_device = true;
          event->position.store(end, std::memory_order_release);
        }
      }
    }
  }
  return CUDA_SUCCESS;
}

// "The graphs must be topologically identical": as many steps, of the same types, in the same order. Kernels
// may change their function within limits CUDA documents; parameters, addresses and sizes may change.
CUresult update(CUgraphExec exec_handle, CUgraph graph_handle, CUgraphExecUpdateResult& reason,
                std::size_t& where) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Driver& driver = Driver::get();
  GraphExec* exec = driver.graph_execs.find(exec_handle);
  const Graph* graph = driver.graphs.find(graph_handle);
  if (exec == nullptr || graph == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const std::lock_guard guard(exec->mutex);
  where = 0;
  if (exec->steps.size() != graph->steps.size()) {
    reason = CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED;
    return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
  }
  for (std::size_t i = 0; i < exec->steps.size(); ++i) {
    where = i;
    if (exec->steps[i].node_type != graph->steps[i].node_type) {
      reason = CU_GRAPH_EXEC_UPDATE_ERROR_NODE_TYPE_CHANGED;
      return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
    }
    if (exec->steps[i].type != graph->steps[i].type || exec->steps[i].opcode != graph->steps[i].opcode) {
      reason = CU_GRAPH_EXEC_UPDATE_ERROR_PARAMETERS_CHANGED;
      return CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE;
    }
  }
  exec->steps = graph->steps;
  reason = CU_GRAPH_EXEC_UPDATE_SUCCESS;
  return CUDA_SUCCESS;
}

CUresult upload(CUgraphExec handle, CUstream stream_handle, NullStream meaning) {
  const Entry entry = enter();
  if (!entry) {
    return entry.result;
  }
  Stream* stream = nullptr;
  if (Driver::get().graph_execs.find(handle) == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // There is nothing to prepare: a graph is replayed from here.
  return resolve_stream(entry, stream_handle, meaning, stream);
}

CUresult instantiate_with_params(CUgraphExec* exec, CUgraph graph, CUDA_GRAPH_INSTANTIATE_PARAMS* parameters,
                                 NullStream meaning) {
  if (parameters == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  CUresult result = instantiate(exec, graph, parameters->flags);
  parameters->hErrNode_out = nullptr;
  parameters->result_out =
      result == CUDA_SUCCESS ? CUDA_GRAPH_INSTANTIATE_SUCCESS : CUDA_GRAPH_INSTANTIATE_ERROR;
  if (result == CUDA_SUCCESS && (parameters->flags & CUDA_GRAPH_INSTANTIATE_FLAG_UPLOAD) != 0) {
    result = upload(*exec, parameters->hUploadStream, meaning);
  }
  return result;
}

CUresult nodes(CUgraph handle, CUgraphNode* list, size_t* count, bool roots_only) {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  const Graph* graph = Driver::get().graphs.find(handle);
  if (graph == nullptr || count == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  // The steps are a chain, with one root.
  const std::size_t all = roots_only ? std::min<std::size_t>(graph->steps.size(), 1) : graph->steps.size();
  if (list == nullptr) {
    *count = all;
    return CUDA_SUCCESS;
  }
  for (std::size_t i = 0; i < *count; ++i) {
    list[i] = i < all ? node_handle(*graph, i) : nullptr;
  }
  *count = std::min(*count, all);
  return CUDA_SUCCESS;
}

}  // namespace

CUresult cuGraphCreate(CUgraph* result, unsigned int flags) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  if (result == nullptr || flags != 0) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  const Graph* graph = Driver::get().graphs.create();
  if (graph == nullptr) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  *result = as_handle<CUgraph>(graph->handle);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuGraphClone(CUgraph* result, CUgraph original) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  Driver& driver = Driver::get();
  const Graph* from = driver.graphs.find(original);
  if (result == nullptr || from == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  Graph* graph = driver.graphs.create();
  if (graph == nullptr) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
  graph->steps = from->steps;
  *result = as_handle<CUgraph>(graph->handle);
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuGraphDestroy(CUgraph graph) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  return Driver::get().graphs.destroy(reinterpret_cast<uintptr_t>(graph)) ? CUDA_SUCCESS
                                                                          : CUDA_ERROR_INVALID_VALUE;
}
VGPU_ABI_EDGE

CUresult cuGraphExecDestroy(CUgraphExec exec) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  return Driver::get().graph_execs.destroy(reinterpret_cast<uintptr_t>(exec)) ? CUDA_SUCCESS
                                                                              : CUDA_ERROR_INVALID_VALUE;
}
VGPU_ABI_EDGE

CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long flags) try {
  return instantiate(exec, graph, flags);
}
VGPU_ABI_EDGE
CUresult cuGraphInstantiate_v2(CUgraphExec* exec, CUgraph graph, CUgraphNode* error_node, char* log,
                               size_t log_bytes) try {
  if (error_node != nullptr) {
    *error_node = nullptr;
  }
  if (log != nullptr && log_bytes != 0) {
    *log = '\0';
  }
  return instantiate(exec, graph, 0);
}
VGPU_ABI_EDGE
CUresult cuGraphInstantiate(CUgraphExec* exec, CUgraph graph, CUgraphNode* error_node, char* log,
                            size_t log_bytes) try {
  return cuGraphInstantiate_v2(exec, graph, error_node, log, log_bytes);
}
VGPU_ABI_EDGE
CUresult cuGraphInstantiateWithParams(CUgraphExec* exec, CUgraph graph,
                                      CUDA_GRAPH_INSTANTIATE_PARAMS* parameters) try {
  return instantiate_with_params(exec, graph, parameters, NullStream::kLegacy);
}
VGPU_ABI_EDGE
CUresult cuGraphInstantiateWithParams_ptsz(CUgraphExec* exec, CUgraph graph,
                                           CUDA_GRAPH_INSTANTIATE_PARAMS* parameters) try {
  return instantiate_with_params(exec, graph, parameters, NullStream::kPerThread);
}
VGPU_ABI_EDGE

CUresult cuGraphLaunch(CUgraphExec exec, CUstream stream) try {
  return launch(exec, stream, NullStream::kLegacy);
}
VGPU_ABI_EDGE
CUresult cuGraphLaunch_ptsz(CUgraphExec exec, CUstream stream) try {
  return launch(exec, stream, NullStream::kPerThread);
}
VGPU_ABI_EDGE
CUresult cuGraphUpload(CUgraphExec exec, CUstream stream) try {
  return upload(exec, stream, NullStream::kLegacy);
}
VGPU_ABI_EDGE
CUresult cuGraphUpload_ptsz(CUgraphExec exec, CUstream stream) try {
  return upload(exec, stream, NullStream::kPerThread);
}
VGPU_ABI_EDGE

CUresult cuGraphExecUpdate_v2(CUgraphExec exec, CUgraph graph, CUgraphExecUpdateResultInfo* info) try {
  if (info == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  std::size_t where = 0;
  *info = {.result = CU_GRAPH_EXEC_UPDATE_ERROR, .errorNode = nullptr, .errorFromNode = nullptr};
  const CUresult result = update(exec, graph, info->result, where);
  if (result == CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE) {
    const Graph* from = Driver::get().graphs.find(graph);
    if (from != nullptr && where < from->steps.size()) {
      info->errorNode = node_handle(*from, where);
    }
  }
  return result;
}
VGPU_ABI_EDGE
CUresult cuGraphExecUpdate(CUgraphExec exec, CUgraph graph, CUgraphNode* error_node,
                           CUgraphExecUpdateResult* reason) try {
  CUgraphExecUpdateResultInfo info{};
  const CUresult result = cuGraphExecUpdate_v2(exec, graph, &info);
  if (error_node != nullptr) {
    *error_node = info.errorNode;
  }
  if (reason != nullptr) {
    *reason = info.result;
  }
  return result;
}
VGPU_ABI_EDGE

CUresult cuGraphExecGetFlags(CUgraphExec handle, uint64_t* flags) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  const GraphExec* exec = Driver::get().graph_execs.find(handle);
  if (exec == nullptr || flags == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *flags = exec->flags;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode* list, size_t* count) try {
  return nodes(graph, list, count, false);
}
VGPU_ABI_EDGE
CUresult cuGraphGetRootNodes(CUgraph graph, CUgraphNode* list, size_t* count) try {
  return nodes(graph, list, count, true);
}
VGPU_ABI_EDGE
CUresult cuGraphNodeGetType(CUgraphNode node, CUgraphNodeType* type) try {
  if (const CUresult ready = Driver::ready(); ready != CUDA_SUCCESS) {
    return ready;
  }
  const GraphStep* step = step_of(node);
  if (step == nullptr || type == nullptr) {
    return CUDA_ERROR_INVALID_VALUE;
  }
  *type = step->node_type;
  return CUDA_SUCCESS;
}
VGPU_ABI_EDGE
