// Streams, events, capture and graphs.
#include <atomic>
#include <thread>

#include "tests/shim/cuda/fixture.h"

namespace vgpu::shim::testing {
namespace {

CUstream make_stream(unsigned flags = CU_STREAM_NON_BLOCKING) {
  CUstream stream = nullptr;
  EXPECT_CUDA(cuStreamCreate(&stream, flags));
  return stream;
}
CUevent make_event(unsigned flags = 0) {
  CUevent event = nullptr;
  EXPECT_CUDA(cuEventCreate(&event, flags));
  return event;
}

TEST_F(DriverTest, StreamsTellWhatTheyAre) {
  CUstream stream = nullptr;
  ASSERT_CUDA(cuStreamCreateWithPriority(&stream, CU_STREAM_NON_BLOCKING, -100));
  unsigned flags = 0;
  int priority = 0;
  int least = 1;
  int greatest = 1;
  CUcontext context = nullptr;
  unsigned long long id = 0;
  unsigned long long legacy_id = 0;
  EXPECT_CUDA(cuStreamGetFlags(stream, &flags));
  EXPECT_EQ(flags, CU_STREAM_NON_BLOCKING);
  EXPECT_CUDA(cuCtxGetStreamPriorityRange(&least, &greatest));
  EXPECT_CUDA(cuStreamGetPriority(stream, &priority));
  EXPECT_EQ(priority, greatest);
  EXPECT_CUDA(cuStreamGetCtx(stream, &context));
  EXPECT_EQ(context, context_);
  EXPECT_CUDA(cuStreamGetId(stream, &id));
  EXPECT_CUDA(cuStreamGetId(nullptr, &legacy_id));
  EXPECT_NE(id, legacy_id);
  EXPECT_CUDA(cuStreamDestroy_v2(stream));
  EXPECT_EQ(cuStreamDestroy_v2(stream), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cuStreamSynchronize(stream), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cuStreamDestroy_v2(nullptr), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cuStreamDestroy_v2(CU_STREAM_PER_THREAD), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cuStreamCreate(&stream, 0x80), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, QueriesTellWhetherWorkIsDone) {
  Gate gate(function("gate"));
  const CUstream stream = make_stream();
  const CUevent event = make_event();
  EXPECT_CUDA(cuEventQuery(event)) << "never recorded";
  EXPECT_CUDA(cuStreamQuery(stream) == CUDA_ERROR_NOT_READY ? cuStreamSynchronize(stream) : CUDA_SUCCESS);
  gate.close(stream);
  ASSERT_CUDA(cuEventRecord(event, stream));
  EXPECT_EQ(cuStreamQuery(stream), CUDA_ERROR_NOT_READY);
  EXPECT_EQ(cuEventQuery(event), CUDA_ERROR_NOT_READY);
  gate.open();
  EXPECT_CUDA(cuEventSynchronize(event));
  EXPECT_CUDA(cuEventQuery(event));
  EXPECT_CUDA(cuStreamSynchronize(stream));
  EXPECT_CUDA(cuStreamQuery(stream));
}

TEST_F(DriverTest, PerThreadStreamsDifferFromThreadToThread) {
  unsigned long long mine = 0;
  unsigned long long theirs = 0;
  ASSERT_CUDA(cuStreamGetId(CU_STREAM_PER_THREAD, &mine));
  unsigned long long same = 0;
  ASSERT_CUDA(cuStreamGetId_ptsz(nullptr, &same));
  EXPECT_EQ(mine, same);
  std::thread([&] {
    EXPECT_CUDA(cuCtxSetCurrent(context_));
    EXPECT_CUDA(cuStreamGetId(CU_STREAM_PER_THREAD, &theirs));
  }).join();
  EXPECT_NE(mine, theirs);
}

TEST_F(DriverTest, ElapsedTimesFollowTheRules) {
  Gate gate(function("gate"));
  const CUevent start = make_event();
  const CUevent end = make_event();
  const CUevent untimed = make_event(CU_EVENT_DISABLE_TIMING);
  float milliseconds = -1;
  EXPECT_EQ(cuEventElapsedTime(&milliseconds, start, end), CUDA_ERROR_INVALID_HANDLE) << "not recorded";
  ASSERT_CUDA(cuEventRecord(start, nullptr));
  gate.close(nullptr);
  ASSERT_CUDA(cuEventRecord(end, nullptr));
  ASSERT_CUDA(cuEventRecord(untimed, nullptr));
  EXPECT_EQ(cuEventElapsedTime(&milliseconds, start, end), CUDA_ERROR_NOT_READY);
  gate.open();
  ASSERT_CUDA(cuEventSynchronize(end));
  ASSERT_CUDA(cuEventElapsedTime(&milliseconds, start, end));
  EXPECT_GT(milliseconds, 0);
  ASSERT_CUDA(cuCtxSynchronize());
  EXPECT_EQ(cuEventElapsedTime(&milliseconds, start, untimed), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_CUDA(cuEventDestroy_v2(start));
  EXPECT_EQ(cuEventRecord(start, nullptr), CUDA_ERROR_INVALID_HANDLE);
  EXPECT_EQ(cuEventDestroy_v2(start), CUDA_ERROR_INVALID_HANDLE);
}

TEST_F(DriverTest, HostFunctionsRunInStreamOrder) {
  const CUstream stream = make_stream();
  const CUdeviceptr memory = allocate(4);
  uint32_t seen = 0;
  struct Data {
    uint32_t* seen;
    const uint32_t* from;
  };
  uint32_t* pinned = nullptr;
  ASSERT_CUDA(cuMemAllocHost_v2(reinterpret_cast<void**>(&pinned), 4));
  Data data{&seen, pinned};
  ASSERT_CUDA(cuMemsetD32Async(memory, 17, 1, stream));
  ASSERT_CUDA(cuMemcpyDtoHAsync_v2(pinned, memory, 4, stream));
  ASSERT_CUDA(cuLaunchHostFunc(
      stream, [](void* d) { *static_cast<Data*>(d)->seen = *static_cast<Data*>(d)->from; }, &data));
  ASSERT_CUDA(cuStreamSynchronize(stream));
  EXPECT_EQ(seen, 17u);
}

TEST_F(DriverTest, AStreamWritesValues) {
  const CUdeviceptr memory = allocate(16);
  ASSERT_CUDA(cuStreamWriteValue32_v2(nullptr, memory, 0xabcd, 0));
  ASSERT_CUDA(cuStreamWriteValue64_v2(nullptr, memory + 8, 0x1122334455667788, 0));
  uint64_t back[2] = {};
  ASSERT_CUDA(cuMemcpyDtoH_v2(back, memory, 16));
  EXPECT_EQ(static_cast<uint32_t>(back[0]), 0xabcdu);
  EXPECT_EQ(back[1], 0x1122334455667788u);
  EXPECT_EQ(cuStreamWriteValue64_v2(nullptr, memory + 4, 1, 0), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, ACapturedGraphRunsEachTimeItIsLaunchedAndNotBefore) {
  const CUfunction kernel = function("add");
  const CUstream stream = make_stream();
  const CUdeviceptr memory = allocate(4000);
  std::vector<uint32_t> source = numbers(1000);
  std::vector<uint32_t> result(1000);
  ASSERT_CUDA(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_NONE;
  EXPECT_CUDA(cuStreamIsCapturing(stream, &status));
  EXPECT_EQ(status, CU_STREAM_CAPTURE_STATUS_ACTIVE);
  ASSERT_CUDA(cuMemcpyHtoDAsync_v2(memory, source.data(), 4000, stream));
  ASSERT_CUDA(add(kernel, memory, 1000, 3, stream));
  ASSERT_CUDA(cuMemcpyDtoHAsync_v2(result.data(), memory, 4000, stream));
  CUgraph graph = nullptr;
  ASSERT_CUDA(cuStreamEndCapture(stream, &graph));
  EXPECT_EQ(result[5], 0u) << "nothing has run";
  size_t count = 0;
  EXPECT_CUDA(cuGraphGetNodes(graph, nullptr, &count));
  EXPECT_EQ(count, 3u);
  CUgraphNode nodes[3] = {};
  EXPECT_CUDA(cuGraphGetNodes(graph, nodes, &count));
  CUgraphNodeType type = CU_GRAPH_NODE_TYPE_EMPTY;
  EXPECT_CUDA(cuGraphNodeGetType(nodes[1], &type));
  EXPECT_EQ(type, CU_GRAPH_NODE_TYPE_KERNEL);
  CUgraphExec exec = nullptr;
  ASSERT_CUDA(cuGraphInstantiateWithFlags(&exec, graph, 0));
  ASSERT_CUDA(cuGraphUpload(exec, stream));
  for (uint32_t round = 1; round < 4; ++round) {
    std::iota(source.begin(), source.end(), round * 100);  // read again at each launch
    ASSERT_CUDA(cuGraphLaunch(exec, stream));
    ASSERT_CUDA(cuStreamSynchronize(stream));
    EXPECT_EQ(result[999], 999 + round * 100 + 3);
  }
  EXPECT_CUDA(cuGraphExecDestroy(exec));
  EXPECT_CUDA(cuGraphDestroy(graph));
  EXPECT_EQ(cuGraphLaunch(exec, stream), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuGraphDestroy(graph), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, AGraphIsUpdatedWhenItsShapeIsTheSame) {
  const CUfunction kernel = function("add");
  const CUstream stream = make_stream();
  const CUdeviceptr memory = allocate(4);
  const auto capture = [&](uint32_t value, int launches) {
    CUgraph graph = nullptr;
    EXPECT_CUDA(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    EXPECT_CUDA(cuMemsetD32Async(memory, 0, 1, stream));
    for (int i = 0; i < launches; ++i) EXPECT_CUDA(add(kernel, memory, 1, value, stream));
    EXPECT_CUDA(cuStreamEndCapture(stream, &graph));
    return graph;
  };
  CUgraphExec exec = nullptr;
  ASSERT_CUDA(cuGraphInstantiateWithFlags(&exec, capture(1, 500), 0));
  CUgraphExecUpdateResultInfo info{};
  EXPECT_CUDA(cuGraphExecUpdate_v2(exec, capture(2, 500), &info));
  EXPECT_EQ(info.result, CU_GRAPH_EXEC_UPDATE_SUCCESS);
  ASSERT_CUDA(cuGraphLaunch(exec, stream));
  uint32_t back = 0;
  ASSERT_CUDA(cuMemcpyDtoHAsync_v2(&back, memory, 4, stream));
  EXPECT_EQ(back, 1000u);
  EXPECT_EQ(cuGraphExecUpdate_v2(exec, capture(2, 499), &info), CUDA_ERROR_GRAPH_EXEC_UPDATE_FAILURE);
  EXPECT_EQ(info.result, CU_GRAPH_EXEC_UPDATE_ERROR_TOPOLOGY_CHANGED);
}

TEST_F(DriverTest, ACaptureSpreadsOverStreamsByEventsAndMustBeJoined) {
  const CUfunction kernel = function("add");
  const CUstream origin = make_stream();
  const CUstream branch = make_stream();
  const CUevent fork = make_event(CU_EVENT_DISABLE_TIMING);
  const CUevent join = make_event(CU_EVENT_DISABLE_TIMING);
  const CUdeviceptr memory = allocate(4);
  for (const bool joined : {true, false}) {
    ASSERT_CUDA(cuStreamBeginCapture_v2(origin, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL));
    ASSERT_CUDA(cuMemsetD32Async(memory, 1, 1, origin));
    ASSERT_CUDA(cuEventRecord(fork, origin));
    ASSERT_CUDA(cuStreamWaitEvent(branch, fork, 0));
    ASSERT_CUDA(add(kernel, memory, 1, 1, branch));
    EXPECT_EQ(cuEventQuery(fork), CUDA_ERROR_CAPTURED_EVENT);
    if (joined) {
      ASSERT_CUDA(cuEventRecord(join, branch));
      ASSERT_CUDA(cuStreamWaitEvent(origin, join, 0));
    }
    CUgraph graph = nullptr;
    EXPECT_EQ(cuStreamEndCapture(origin, &graph), joined ? CUDA_SUCCESS : CUDA_ERROR_STREAM_CAPTURE_UNJOINED);
    CUstreamCaptureStatus status = CU_STREAM_CAPTURE_STATUS_ACTIVE;
    EXPECT_CUDA(cuStreamIsCapturing(branch, &status));
    EXPECT_EQ(status, CU_STREAM_CAPTURE_STATUS_NONE);
  }
}

TEST_F(DriverTest, CallsThatCaptureForbidsInvalidateIt) {
  const CUstream stream = make_stream();
  CUdeviceptr memory = 0;
  CUgraph graph = nullptr;
  ASSERT_CUDA(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_GLOBAL));
  EXPECT_EQ(cuMemAlloc_v2(&memory, 16), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EXPECT_EQ(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  EXPECT_EQ(graph, nullptr);
  ASSERT_CUDA(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  EXPECT_CUDA(cuMemAlloc_v2(&memory, 16));
  EXPECT_EQ(cuStreamSynchronize(stream), CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  EXPECT_EQ(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  ASSERT_CUDA(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  EXPECT_EQ(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED), CUDA_ERROR_ILLEGAL_STATE);
  EXPECT_CUDA(cuStreamEndCapture(stream, &graph));
  EXPECT_EQ(cuStreamEndCapture(stream, &graph), CUDA_ERROR_ILLEGAL_STATE);
  EXPECT_EQ(cuStreamBeginCapture_v2(nullptr, CU_STREAM_CAPTURE_MODE_RELAXED),
            CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
  const CUstream blocking = make_stream(CU_STREAM_DEFAULT);
  ASSERT_CUDA(cuStreamBeginCapture_v2(blocking, CU_STREAM_CAPTURE_MODE_RELAXED));
  EXPECT_EQ(cuMemsetD32Async(memory, 0, 1, nullptr), CUDA_ERROR_STREAM_CAPTURE_IMPLICIT);
  EXPECT_EQ(cuStreamEndCapture(blocking, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
  const CUevent uncaptured = make_event();
  ASSERT_CUDA(cuEventRecord(uncaptured, nullptr));
  ASSERT_CUDA(cuStreamBeginCapture_v2(stream, CU_STREAM_CAPTURE_MODE_RELAXED));
  EXPECT_EQ(cuStreamWaitEvent(stream, uncaptured, 0), CUDA_ERROR_STREAM_CAPTURE_ISOLATION);
  EXPECT_EQ(cuStreamEndCapture(stream, &graph), CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
}

TEST_F(DriverTest, AFullRingWaitsAndLosesNothing) {
  const CUfunction kernel = function("add");
  const CUdeviceptr memory = allocate(4);
  ASSERT_CUDA(cuMemsetD32_v2(memory, 0, 1));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      ASSERT_CUDA(cuCtxSetCurrent(context_));
      for (int i = 0; i < 5000; ++i) ASSERT_CUDA(add(kernel, memory, 1, 1));
    });
  }
  for (std::thread& thread : threads) thread.join();
  uint32_t back = 0;
  ASSERT_CUDA(cuMemcpyDtoH_v2(&back, memory, 4));
  EXPECT_EQ(back, 20000u);
}

}  // namespace
}  // namespace vgpu::shim::testing
