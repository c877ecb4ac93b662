// The conformance suite's launches: results, limits, faults and their reach, cancelling, streams and events.
#include <array>
#include <atomic>
#include <cstring>
#include <numeric>
#include <thread>

#include "tests/device/backend_conformance.h"

namespace vgpu::device {

void BackendConformance::expect_fault(std::string_view kernel, uint16_t threads, const Parameters& parameters,
                                      protocol::Status expected) {
  const auto healthy = make_context();
  load_kernels(*healthy);
  get_kernel(*healthy, 1, "add_one");
  const uint64_t memory = must_allocate(*healthy, 4096);
  store(*healthy, memory, std::vector<float>(1024, 1.0f));

  const auto context = make_context();
  load_kernels(*context);
  get_kernel(*context, 1, kernel);
  const uint64_t own = must_allocate(*context, 4096);
  auto result = context->launch(0, launch_of(1, 3, threads), parameters);
  if (result) result = context->wait_idle();
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().status, expected) << result.error().reason;
  EXPECT_NE(result.error().reason.find(kernel), std::string::npos) << result.error().reason;
  const auto after = context->wait_idle();
  ASSERT_FALSE(after);
  EXPECT_EQ(after.error().status, expected);
  EXPECT_FALSE(context->allocate(16));
  EXPECT_FALSE(get(*context, own, 16));
  EXPECT_FALSE(context->launch(0, launch_of(1, 1, 32), parameters));

  ASSERT_DONE(healthy->launch(0, launch_of(1, 8, 128), Parameters().add(memory).add(uint32_t{1024})));
  EXPECT_EQ(load<float>(*healthy, memory, 1024), std::vector<float>(1024, 2.0f));
}

namespace {

TEST_P(BackendConformance, AKernelRunsOverAGridWithAPartialBlock) {
  const auto context = make_context();
  load_kernels(*context);
  get_kernel(*context, 1, "add_one");
  for (const uint32_t count : {1u, 31u, 33u, 1000u, 100'001u}) {
    const uint64_t memory = must_allocate(*context, count * 4 + 4);
    std::vector<float> values(count + 1);
    std::iota(values.begin(), values.end(), 0.0f);
    store(*context, memory, values);
    ASSERT_DONE(context->launch(0, launch_of(1, (count + 95) / 96, 96), Parameters().add(memory).add(count)));
    for (std::size_t i = 0; i < count; ++i) values[i] += 1;
    EXPECT_EQ(load<float>(*context, memory, count + 1), values);
    ASSERT_DONE(context->free(memory));
  }
}

TEST_P(BackendConformance, BarriersAndSharedMemoryReduceABlock) {
  const auto context = make_context();
  load_kernels(*context);
  get_kernel(*context, 1, "block_sum");
  for (const uint16_t threads : std::array<uint16_t, 4>{32, 64, 256, 1024}) {
    const uint32_t blocks = 37;
    const uint64_t in = must_allocate(*context, uint64_t{blocks} * threads * 4);
    const uint64_t out = must_allocate(*context, blocks * 4);
    std::vector<uint32_t> values(std::size_t{blocks} * threads);
    std::iota(values.begin(), values.end(), 1u);
    store(*context, in, values);
    ASSERT_DONE(context->launch(0, launch_of(1, blocks, threads), Parameters().add(in).add(out)));
    const auto sums = load<uint32_t>(*context, out, blocks);
    for (uint32_t block = 0; block < blocks; ++block) {
      const auto first = values.begin() + std::ptrdiff_t{block} * threads;
      EXPECT_EQ(sums[block], std::accumulate(first, first + threads, 0u)) << "block " << block;
    }
  }
}

TEST_P(BackendConformance, AtomicsCountEveryThreadOfAllBlocks) {
  const auto context = make_context();
  load_kernels(*context);
  get_kernel(*context, 1, "bump");
  auto request = launch_of(1, 7, 8);
  request.grid_y = 5;
  request.grid_z = 3;
  request.block_y = 3;
  request.block_z = 2;
  ASSERT_DONE(context->launch(0, request, {}));
  ASSERT_DONE(context->wait_idle());
  EXPECT_EQ(load<uint32_t>(*context, context->get_global(1, "counter")->address, 1)[0],
            5u + 7 * 5 * 3 * 8 * 3 * 2);
}

TEST_P(BackendConformance, LaunchesBeyondTheLimitsAreRefusedAndHarmless) {
  const auto context = make_context();
  load_kernels(*context);
  get_kernel(*context, 1, "add_one");
  get_kernel(*context, 2, "narrow");
  get_kernel(*context, 3, "block_sum");
  const auto two = Parameters().add(uint64_t{0}).add(uint32_t{0});
  auto request = launch_of(1, 1, 1024);
  request.block_y = 2;
  EXPECT_STATUS(context->launch(0, request, two), kInvalidValue);
  EXPECT_STATUS(context->launch(0, launch_of(2, 1, 65), {}), kInvalidValue);
  EXPECT_STATUS(context->launch(0, launch_of(1, 1, 32, 48 * 1024 + 1), two), kInvalidValue);
  EXPECT_STATUS(context->launch(0, launch_of(3, 1, 32, 44 * 1024 + 4), two), kInvalidValue);
  EXPECT_STATUS(context->launch(0, launch_of(1, 1, 32), Parameters().add(uint64_t{0})), kInvalidValue);
  EXPECT_STATUS(context->launch(0, launch_of(1, 1, 32), Parameters().add(uint64_t{0}).add(uint64_t{0})),
                kInvalidValue);
  EXPECT_STATUS(context->launch(0, launch_of(9, 1, 32), two), kInvalidHandle);
  EXPECT_STATUS(context->launch(77, launch_of(1, 1, 32), two), kInvalidHandle);
  EXPECT_STATUS(context->set_max_dynamic_shared(3, 44 * 1024 + 1), kInvalidValue);
  ASSERT_DONE(context->set_max_dynamic_shared(3, 1024));
  EXPECT_STATUS(context->launch(0, launch_of(3, 1, 32, 1025), two), kInvalidValue);
  ASSERT_DONE(context->launch(0, launch_of(1, 1, 1024, 48 * 1024), two));
}

// However a grid is cut among threads, and whatever is known of how long its blocks take.
TEST_P(BackendConformance, EveryBlockOfAGridRunsOnce) {
  const auto context = make_context();
  load_kernels(*context);
  get_kernel(*context, 1, "add_one");
  constexpr uint32_t kThreads = 256;
  for (const uint32_t blocks : {1u, 2u, 3u, 7u, 8u, 9u, 31u, 100u, 257u, 1001u, 4099u}) {
    const uint32_t count = blocks * kThreads;
    const uint64_t memory = must_allocate(*context, uint64_t{count} * 4);
    store(*context, memory, std::vector<float>(count, 0.0f));
    for (int launch = 0; launch < 4; ++launch) {
      ASSERT_DONE(context->launch(0, launch_of(1, blocks, kThreads), Parameters().add(memory).add(count)));
    }
    ASSERT_DONE(context->wait_idle());
    EXPECT_EQ(load<float>(*context, memory, count), std::vector<float>(count, 4.0f)) << blocks << " blocks";
    ASSERT_DONE(context->free(memory));
  }
}

TEST_P(BackendConformance, AnUnmappedAddressOfTheWindowIsIllegal) {
  expect_fault("store_at", 64,
               Parameters().add(backend_->properties().window_base + (uint64_t{1} << 39)).add(1u),
               protocol::Status::kIllegalAddress);
}

TEST_P(BackendConformance, NullIsIllegal) {
  expect_fault("store_at", 64, Parameters().add(uint64_t{0}).add(1u), protocol::Status::kIllegalAddress);
}

TEST_P(BackendConformance, AddressesBeyondTheWindowAreIllegal) {
  const auto& properties = backend_->properties();
  expect_fault("store_at", 64, Parameters().add(properties.window_base + properties.window_bytes).add(1u),
               protocol::Status::kIllegalAddress);
  expect_fault("store_at", 64, Parameters().add(~uint64_t{3}).add(1u), protocol::Status::kIllegalAddress);
  // Memory of this very process.
  uint32_t mine = 7;
  expect_fault("store_at", 64, Parameters().add(reinterpret_cast<uint64_t>(&mine)).add(1u),
               protocol::Status::kIllegalAddress);
  EXPECT_EQ(mine, 7u);
}

TEST_P(BackendConformance, SharedMemoryEndsWhereItEnds) {
  expect_fault("store_shared", 32, Parameters().add(uint32_t{64 * 1024}), protocol::Status::kIllegalAddress);
}

TEST_P(BackendConformance, TrapEndsTheKernel) {
  expect_fault("trap_now", 32, Parameters(), protocol::Status::kLaunchFailed);
}

TEST_P(BackendConformance, ABarrierThatNobodyElseReachesIsAnErrorAndNoHang) {
  expect_fault("wait_for_nobody", 64, Parameters(), protocol::Status::kLaunchFailed);
}

TEST_P(BackendConformance, AnEndlessKernelEndsWhenCancelled) {
  const auto context = make_context();
  const auto other = make_context();
  load_kernels(*context);
  get_kernel(*context, 1, "spin");
  const uint64_t flag = must_allocate(*context, 4);
  store(*context, flag, std::vector<uint32_t>{0});
  std::atomic<bool> started{false};
  std::thread canceller([&] {
    started.wait(false);
    context->cancel();
  });
  started.store(true);
  started.notify_one();
  auto result = context->launch(0, launch_of(1, 4, 32), Parameters().add(flag));
  if (result) result = context->wait_idle();
  canceller.join();
  EXPECT_FALSE(result);
  EXPECT_FALSE(context->allocate(16));
  EXPECT_TRUE(other->allocate(16));
}

TEST_P(BackendConformance, ContextsOfSeveralThreadsRunAtTheSameTime) {
  std::vector<std::thread> threads;
  std::vector<std::unique_ptr<Context>> contexts;
  for (int i = 0; i < 4; ++i) contexts.push_back(make_context());
  std::atomic<int> wrong{0};
  for (const auto& context : contexts) {
    threads.emplace_back([&, context = context.get()] {
      load_kernels(*context);
      get_kernel(*context, 1, "block_sum");
      const uint64_t in = must_allocate(*context, 64 * 256 * 4);
      const uint64_t out = must_allocate(*context, 64 * 4);
      store(*context, in, std::vector<uint32_t>(64 * 256, 3));
      for (int round = 0; round < 50; ++round) {
        const auto launched = context->launch(0, launch_of(1, 64, 256), Parameters().add(in).add(out));
        if (!launched || load<uint32_t>(*context, out, 64) != std::vector<uint32_t>(64, 3 * 256)) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
}

TEST_P(BackendConformance, BlocksOfACooperativeLaunchMeet) {
  const auto context = make_context();
  load_kernels(*context);
  get_kernel(*context, 1, "meet");
  const uint64_t count = must_allocate(*context, 4);
  const auto cooperative = [&](uint32_t blocks) {
    auto request = launch_of(1, blocks, 32);
    request.flags = protocol::kLaunchCooperative;
    store(*context, count, std::vector<uint32_t>{0});
    return context->launch(0, request, Parameters().add(count).add(blocks * 32));
  };
  ASSERT_DONE(cooperative(1));
  ASSERT_DONE(cooperative(5));
  ASSERT_DONE(context->wait_idle());
  EXPECT_EQ(load<uint32_t>(*context, count, 1)[0], 5u * 32);
  const auto& attributes = backend_->properties().attributes;
  const auto resident = static_cast<uint32_t>(attributes[16] * attributes[106]);
  EXPECT_STATUS(cooperative(resident + 1), kCooperativeLaunchTooLarge);
  ASSERT_DONE(cooperative(2));
}

TEST_P(BackendConformance, StreamsAndEventsKeepTheirHandlesAndTimesGrow) {
  const auto context = make_context();
  ASSERT_DONE(context->create_stream({.stream = 3, .flags = 1, .priority = 0, .reserved = 0}));
  EXPECT_STATUS(context->create_stream({.stream = 3, .flags = 1, .priority = 0, .reserved = 0}),
                kInvalidValue);
  EXPECT_STATUS(context->event_time(1), kInvalidHandle);
  ASSERT_DONE(context->wait_event(3, 1));  // never recorded: no wait
  ASSERT_DONE(context->record_event(0, 1));
  ASSERT_DONE(context->record_event(3, 2));
  ASSERT_DONE(context->wait_event(3, 1));
  EXPECT_STATUS(context->record_event(4, 1), kInvalidHandle);
  ASSERT_DONE(context->wait_idle());
  const auto first = context->event_time(1);
  const auto second = context->event_time(2);
  ASSERT_TRUE(first && second);
  EXPECT_LE(*first, *second);
  ASSERT_DONE(context->record_event(0, 1));
  EXPECT_GE(*context->event_time(1), *second);
  ASSERT_DONE(context->destroy_event(1));
  EXPECT_STATUS(context->event_time(1), kInvalidHandle);
  ASSERT_DONE(context->destroy_stream(3));
  EXPECT_STATUS(context->destroy_stream(3), kInvalidHandle);
  EXPECT_STATUS(context->record_event(3, 2), kInvalidHandle);
}

TEST_P(BackendConformance, PropertiesAreThoseOfAUsableDevice) {
  const auto& properties = backend_->properties();
  const auto& attributes = properties.attributes;
  EXPECT_FALSE(properties.name.empty());
  EXPECT_GT(properties.total_memory_bytes, 0u);
  EXPECT_EQ(attributes[75], static_cast<int32_t>(properties.compute_major));
  EXPECT_EQ(attributes[76], static_cast<int32_t>(properties.compute_minor));
  EXPECT_EQ(attributes[10], 32);  // warp size
  for (const std::size_t positive :
       {1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 12u, 13u, 16u, 39u, 81u, 82u, 97u, 106u}) {
    EXPECT_GT(attributes[positive], 0) << "attribute " << positive;
  }
  bool any = false;
  for (const std::byte byte : properties.uuid) any = any || byte != std::byte{0};
  EXPECT_TRUE(any);
  EXPECT_FALSE(backend_->statistics().empty());
}

}  // namespace
}  // namespace vgpu::device
