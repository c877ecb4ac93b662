// Records against a fake backend: each command arrives, and bad ones come back with names and values.
#include "device/server/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/device/server/fake_backend.h"

namespace vgpu::device {
namespace {

using protocol::Status;
using testing::FakeBackend;
using testing::FakeContext;
using testing::FakeState;
using ::testing::HasSubstr;

class ExecutorTest : public ::testing::Test {
 protected:
  ExecutorTest() {
    ExecutorConfig config;
    config.limits.window_base = testing::kFakeWindowBase;
    config.limits.window_bytes = testing::kFakeWindowBytes;
    config.limits.bulk_bytes = bulk_.size();
    config.limits.max_image_bytes = 4096;
    config.image_bytes = 4096;
    config.bulk = bulk_;
    executor_.emplace(context_, config, counters_);
  }

  std::span<const std::byte> record(uint16_t opcode, std::span<const std::byte> body, uint16_t slot = 0) {
    record_.assign(sizeof(ring::RecordHeader), std::byte{});
    const ring::RecordHeader header{.commit = 0, .opcode = opcode, .reply_slot = slot, .stream = 3};
    std::memcpy(record_.data(), &header, sizeof header);
    record_.insert(record_.end(), body.begin(), body.end());
    return record_;
  }
  Executor::Outcome execute_bytes(uint16_t opcode, std::span<const std::byte> body, uint16_t slot = 0) {
    return executor_->execute(record(opcode, body, slot));
  }
  template <typename Request>
  Executor::Outcome execute(const Request& request, std::string_view tail = {}, uint16_t slot = 0) {
    std::vector<std::byte> body(protocol::kWireBytes<Request>);
    if constexpr (protocol::kWireBytes<Request> > 0) std::memcpy(body.data(), &request, sizeof request);
    const auto bytes = std::as_bytes(std::span(tail));
    body.insert(body.end(), bytes.begin(), bytes.end());
    return execute_bytes(static_cast<uint16_t>(Request::kOpcode), body, slot);
  }
  template <typename Reply>
  static Reply reply(const Executor::Outcome& outcome) {
    Reply value{};
    EXPECT_GE(outcome.reply.size(), sizeof value);
    if (outcome.reply.size() >= sizeof value) std::memcpy(&value, outcome.reply.data(), sizeof value);
    return value;
  }

  FakeState state_;
  FakeContext context_{state_};
  std::vector<std::byte> bulk_ = std::vector<std::byte>(65536);
  Counters counters_;
  std::optional<Executor> executor_;
  std::vector<std::byte> record_;
};

TEST_F(ExecutorTest, EveryCommandOfTheTableReachesTheBackend) {
  using namespace protocol;
  const auto allocated = reply<MemAllocReply>(execute(MemAllocRequest{.bytes = 4096}));
  const uint64_t memory = allocated.address;
  std::set<uint16_t> sent{static_cast<uint16_t>(Opcode::kMemAlloc)};
  const auto good = [&](const auto& request, std::string_view tail = {}) {
    sent.insert(static_cast<uint16_t>(request.kOpcode));
    const auto outcome = execute(request, tail);
    EXPECT_EQ(outcome.status, Status::kSuccess) << outcome.reason;
    // Only what the table promises is answered.
    const auto& info = kCommands[command_index(static_cast<uint16_t>(request.kOpcode))];
    EXPECT_GE(outcome.reply.size(), info.reply_bytes) << info.name;
  };
  good(PingRequest{.cookie = 5});
  good(KernelFiguresRequest{.index = 0, .reserved = 0});
  good(MemGetInfoRequest{});
  good(CopyInlineRequest{.destination = memory}, "data");
  good(CopyFromBulkRequest{.destination = memory,
                           .bulk_offset = 0,
                           .width = 16,
                           .height = 1,
                           .destination_pitch = 0,
                           .bulk_pitch = 0});
  good(CopyToBulkRequest{
      .source = memory, .bulk_offset = 0, .width = 16, .height = 2, .source_pitch = 32, .bulk_pitch = 16});
  good(CopyDeviceRequest{.destination = memory,
                         .source = memory,
                         .width = 8,
                         .height = 1,
                         .destination_pitch = 0,
                         .source_pitch = 0});
  good(MemsetRequest{
      .destination = memory, .width = 8, .height = 1, .pitch = 0, .value = 1, .element_bytes = 4});
  good(BulkAddressRequest{});
  good(AddressReserveRequest{.bytes = 1 << 21, .alignment = 0, .wanted = 0});
  good(AddressFreeRequest{.address = memory, .bytes = 1 << 21});
  good(PhysicalCreateRequest{.bytes = 1 << 21, .physical = 1, .reserved = 0});
  good(PhysicalReleaseRequest{.physical = 1, .reserved = 0});
  good(MapRequest{.address = memory, .bytes = 1 << 21, .offset = 0, .physical = 1, .reserved = 0});
  good(UnmapRequest{.address = memory, .bytes = 1 << 21});
  good(SetAccessRequest{.address = memory, .bytes = 1 << 21, .access = 3, .reserved = 0});
  good(ModuleDataRequest{.offset = 0, .total = 8, .bulk_offset = 0, .bytes = 8, .module = 1, .reserved = 0});
  good(ModuleLoadRequest{.module = 1, .reserved = 0});
  good(ModuleUnloadRequest{.module = 1, .reserved = 0});
  good(FunctionGetRequest{.module = 1, .function = 1}, "f");
  good(FunctionNameRequest{.module = 1, .index = 4});
  good(GlobalGetRequest{.module = 1, .reserved = 0}, "g");
  good(FunctionSetMaxDynamicSharedRequest{.function = 1, .bytes = 65536});
  good(testing::launch_of(1), "parameters");
  good(StreamCreateRequest{.stream = 1, .flags = 0, .priority = 0, .reserved = 0});
  good(StreamDestroyRequest{.stream = 1, .reserved = 0});
  good(EventRecordRequest{.event = 1, .reserved = 0});
  good(StreamWaitEventRequest{.event = 1, .reserved = 0});
  good(EventTimeRequest{.event = 1, .reserved = 0});
  good(EventDestroyRequest{.event = 1, .reserved = 0});
  good(WriteValueRequest{.address = memory, .value = 1, .bytes = 4, .reserved = 0});
  GemmRequest gemm;
  gemm.lda = gemm.ldb = gemm.ldc = 1;
  good(gemm);
  TrsmBatchedRequest trsm;
  trsm.lda = trsm.ldb = 1;
  good(trsm);
  good(MemFreeRequest{.address = memory});

  sent.insert(static_cast<uint16_t>(Opcode::kRefused));  // no call of the backend; has a test of its own
  for (const auto& command : kCommands) {
    EXPECT_TRUE(sent.contains(static_cast<uint16_t>(command.opcode)))
        << command.name << " is not tested here";
  }
  const auto expected = std::set<std::string>{"allocate",
                                              "free",
                                              "memory_info",
                                              "copy_to_device",
                                              "copy_from_device",
                                              "copy_on_device",
                                              "memset",
                                              "write_value",
                                              "map_bulk",
                                              "reserve_address",
                                              "free_address",
                                              "create_physical",
                                              "release_physical",
                                              "map",
                                              "unmap",
                                              "set_access",
                                              "load_module",
                                              "unload_module",
                                              "get_function",
                                              "function_name",
                                              "get_global",
                                              "set_max_dynamic_shared",
                                              "launch",
                                              "kernel_figures",
                                              "gemm",
                                              "trsm_batched",
                                              "create_stream",
                                              "destroy_stream",
                                              "record_event",
                                              "wait_event",
                                              "destroy_event",
                                              "event_time"};
  EXPECT_EQ(state_.names(), expected);
}

TEST_F(ExecutorTest, WhatTheGuestRefusedIsCountedAndNamedAndChangesNothing) {
  using namespace protocol;
  const auto outcome = execute(RefusedRequest{.status = static_cast<uint32_t>(Status::kIllegalAddress),
                                              .opcode = static_cast<uint32_t>(Opcode::kLaunch)},
                               "no\x1b[2Jthing", ring::kNoReply);
  EXPECT_TRUE(outcome.told);
  EXPECT_EQ(outcome.status, Status::kIllegalAddress);
  EXPECT_EQ(outcome.opcode, static_cast<uint16_t>(Opcode::kLaunch));
  EXPECT_EQ(outcome.reason, "no?[2Jthing");
  EXPECT_EQ(counters_.block.errors, 1u);
  EXPECT_EQ(executor_->sticky(), Status::kSuccess);
  EXPECT_EQ(execute(PingRequest{.cookie = 1}).status, Status::kSuccess);
  // Neither success nor a number that is no error can be refused with; an unknown command stays Refused.
  EXPECT_FALSE(execute(RefusedRequest{.status = 0, .opcode = 1}, "x", ring::kNoReply).told);
  EXPECT_EQ(execute(RefusedRequest{.status = 1, .opcode = 0xfffff}, "x", ring::kNoReply).opcode,
            static_cast<uint16_t>(Opcode::kRefused));
}

TEST_F(ExecutorTest, AKernelsNameIsCutToWhatAnAnswerHolds) {
  using namespace protocol;
  state_.kernel_name = std::string(3000, 'k');
  const auto outcome = execute(KernelFiguresRequest{.index = 0, .reserved = 0});
  ASSERT_EQ(outcome.status, Status::kSuccess) << outcome.reason;
  KernelFiguresReply figures;
  ASSERT_EQ(outcome.reply.size(), ExecutorConfig{}.reply_payload_bytes);
  std::memcpy(&figures, outcome.reply.data(), sizeof figures);
  EXPECT_EQ(figures.launches, 7U);
  const auto text = outcome.reply.subspan(sizeof figures);
  ASSERT_EQ(figures.name_bytes + figures.count_bytes, text.size());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(text.data()) + figures.name_bytes, figures.count_bytes),
            "loads_uniform 3\n");
  EXPECT_EQ(text[figures.name_bytes - 1], std::byte{'k'});
}

TEST_F(ExecutorTest, WhatFailsForAnAbandonedGuestIsNotCounted) {
  using namespace protocol;
  bool abandoned = true;
  executor_.emplace(context_,
                    ExecutorConfig{.limits = {}, .bulk = bulk_, .abandoned = [&] { return abandoned; }},
                    counters_);
  EXPECT_TRUE(execute(MemAllocRequest{.bytes = 0}).abandoned);
  EXPECT_EQ(counters_.block.errors, 0u);
  abandoned = false;
  EXPECT_FALSE(execute(MemAllocRequest{.bytes = 0}).abandoned);
  EXPECT_EQ(counters_.block.errors, 1u);
}

TEST_F(ExecutorTest, DataTravelsThroughTheBulkHeapRowByRow) {
  using namespace protocol;
  const uint64_t memory = reply<MemAllocReply>(execute(MemAllocRequest{.bytes = 64})).address;
  for (std::size_t i = 0; i < 64; ++i) bulk_[i] = static_cast<std::byte>(i);
  ASSERT_EQ(execute(CopyFromBulkRequest{.destination = memory,
                                        .bulk_offset = 0,
                                        .width = 4,
                                        .height = 2,
                                        .destination_pitch = 32,
                                        .bulk_pitch = 8})
                .status,
            Status::kSuccess);
  ASSERT_EQ(execute(CopyToBulkRequest{.source = memory,
                                      .bulk_offset = 1000,
                                      .width = 36,
                                      .height = 1,
                                      .source_pitch = 0,
                                      .bulk_pitch = 0})
                .status,
            Status::kSuccess);
  EXPECT_EQ(bulk_[1003], std::byte{3});
  EXPECT_EQ(bulk_[1032], std::byte{8});
  EXPECT_EQ(counters_.block.bytes_to_device, 8u);
  EXPECT_EQ(counters_.block.bytes_from_device, 36u);
}

TEST_F(ExecutorTest, AnImageGathersFromItsChunksAndArrivesWhole) {
  using namespace protocol;
  for (std::size_t i = 0; i < 100; ++i) bulk_[i] = static_cast<std::byte>(i);
  EXPECT_EQ(execute(ModuleDataRequest{
                        .offset = 0, .total = 100, .bulk_offset = 0, .bytes = 60, .module = 7, .reserved = 0})
                .status,
            Status::kSuccess);
  EXPECT_EQ(
      execute(ModuleDataRequest{
                  .offset = 60, .total = 100, .bulk_offset = 60, .bytes = 40, .module = 7, .reserved = 0})
          .status,
      Status::kSuccess);
  const auto loaded = reply<ModuleLoadReply>(execute(ModuleLoadRequest{.module = 7, .reserved = 0}));
  EXPECT_EQ(loaded.function_count, 100u);
  EXPECT_EQ(loaded.global_count, 99u);
}

TEST_F(ExecutorTest, AnImageWithAHoleIsRefused) {
  using namespace protocol;
  execute(ModuleDataRequest{
      .offset = 0, .total = 100, .bulk_offset = 0, .bytes = 40, .module = 7, .reserved = 0});
  EXPECT_EQ(
      execute(ModuleDataRequest{
                  .offset = 60, .total = 100, .bulk_offset = 60, .bytes = 40, .module = 7, .reserved = 0})
          .status,
      Status::kInvalidValue);
  EXPECT_EQ(execute(ModuleLoadRequest{.module = 7, .reserved = 0}).status, Status::kInvalidImage);
  EXPECT_EQ(state_.calls("load_module"), 0);
}

TEST_F(ExecutorTest, ImagesBeingGatheredStayWithinTheQuota) {
  using namespace protocol;
  EXPECT_EQ(execute(ModuleDataRequest{
                        .offset = 0, .total = 4000, .bulk_offset = 0, .bytes = 1, .module = 1, .reserved = 0})
                .status,
            Status::kSuccess);
  const auto outcome = execute(
      ModuleDataRequest{.offset = 0, .total = 100, .bulk_offset = 0, .bytes = 1, .module = 2, .reserved = 0});
  EXPECT_EQ(outcome.status, Status::kOutOfMemory);
  EXPECT_THAT(outcome.reason, HasSubstr("quota of 4096"));
  // Beginning anew gives the old share back.
  EXPECT_EQ(execute(ModuleDataRequest{
                        .offset = 0, .total = 10, .bulk_offset = 0, .bytes = 1, .module = 1, .reserved = 0})
                .status,
            Status::kSuccess);
  EXPECT_EQ(execute(ModuleDataRequest{
                        .offset = 0, .total = 4000, .bulk_offset = 0, .bytes = 1, .module = 2, .reserved = 0})
                .status,
            Status::kSuccess);
}

TEST_F(ExecutorTest, AFunctionsParametersFollowItsReply) {
  const auto outcome = execute(protocol::FunctionGetRequest{.module = 1, .function = 1}, "abc");
  const auto info = reply<protocol::FunctionGetReply>(outcome);
  EXPECT_EQ(info.parameter_count, 3u);
  ASSERT_EQ(outcome.reply.size(), sizeof info + 3 * sizeof(protocol::ParameterLayout));
  protocol::ParameterLayout last{};
  std::memcpy(&last, outcome.reply.data() + sizeof info + 2 * sizeof last, sizeof last);
  EXPECT_EQ(last.offset, 16);
}

TEST_F(ExecutorTest, AnAnswerThatDoesNotFitItsSlotIsAnError) {
  const auto outcome =
      execute(protocol::FunctionGetRequest{.module = 1, .function = 1}, std::string(1000, 'n'));
  EXPECT_EQ(outcome.status, Status::kNotSupported);
  EXPECT_TRUE(outcome.reply.empty());
}

TEST_F(ExecutorTest, AnUnknownOpcodeIsNotSupportedAndNamed) {
  const auto outcome = execute_bytes(0x7777, {});
  EXPECT_EQ(outcome.status, Status::kNotSupported);
  EXPECT_THAT(outcome.reason, HasSubstr("0x7777"));
  EXPECT_EQ(counters_.block.not_supported, 1u);
}

TEST_F(ExecutorTest, AFailedCheckComesWithNamesAndValues) {
  const auto outcome = execute(protocol::CopyInlineRequest{.destination = 0x1234}, "data");
  EXPECT_EQ(outcome.status, Status::kInvalidValue);
  EXPECT_THAT(outcome.reason, HasSubstr("limits.device_range(r.destination, tail)"));
  EXPECT_THAT(outcome.reason, HasSubstr("CopyInline(destination=0x1234, 4 bytes follow)"));
  EXPECT_EQ(state_.calls("copy_to_device"), 0);
}

// Only a launch that passes the checks is one; nothing is executed or counted.
TEST_F(ExecutorTest, PeekingGivesLaunchesAlone) {
  const protocol::LaunchRequest launch = testing::launch_of(7);
  std::vector<std::byte> body(protocol::kWireBytes<protocol::LaunchRequest> + 12);
  std::memcpy(body.data(), &launch, sizeof launch);
  int seen = 0;
  const auto peek = [&](protocol::Opcode opcode, std::span<const std::byte> bytes, bool answer) {
    const auto bytes_of = record(static_cast<uint16_t>(opcode), bytes);
    return executor_->peek(bytes_of, [&](const protocol::LaunchRequest& r, std::span<const std::byte> tail) {
      ++seen;
      EXPECT_EQ(r.function, 7u);
      EXPECT_EQ(tail.size(), 12u);
      return answer;
    });
  };
  EXPECT_TRUE(peek(protocol::Opcode::kLaunch, body, true));
  EXPECT_FALSE(peek(protocol::Opcode::kLaunch, body, false));
  EXPECT_EQ(seen, 2);
  EXPECT_TRUE(peek(protocol::Opcode::kPing, body, false));
  EXPECT_TRUE(peek(protocol::Opcode::kLaunch, std::span(body).first(5), false));
  EXPECT_TRUE(peek(static_cast<protocol::Opcode>(0xFFF0), body, false));
  std::memset(body.data() + offsetof(protocol::LaunchRequest, grid_x), 0, 4);
  EXPECT_TRUE(peek(protocol::Opcode::kLaunch, body, false));
  EXPECT_EQ(seen, 2);
  EXPECT_EQ(counters_.block.commands, 0u);
  EXPECT_TRUE(state_.names().empty());
}

TEST_F(ExecutorTest, ATruncatedRecordIsRefused) {
  const std::byte body[3]{};
  const auto outcome = execute_bytes(static_cast<uint16_t>(protocol::Opcode::kLaunch), body);
  EXPECT_EQ(outcome.status, Status::kInvalidValue);
  EXPECT_THAT(outcome.reason, HasSubstr("Launch truncated to 3"));
  EXPECT_EQ(executor_->execute(std::span(record_).first(5)).status, Status::kInvalidValue);
}

TEST_F(ExecutorTest, ACommandWithAnswerNeedsASlot) {
  EXPECT_EQ(execute(protocol::PingRequest{.cookie = 1}, {}, ring::kNoReply).status, Status::kInvalidValue);
}

TEST_F(ExecutorTest, AStickyErrorEndsTheContextAndIsExplainedOnce) {
  const protocol::LaunchRequest launch = testing::launch_of(1);
  state_.fail_next("launch", {Status::kIllegalAddress, "kernel f read 0x10"});
  const auto first = execute(launch);
  EXPECT_EQ(first.status, Status::kIllegalAddress);
  EXPECT_THAT(first.reason, HasSubstr("kernel f read 0x10"));
  const auto second = execute(protocol::MemAllocRequest{.bytes = 1});
  EXPECT_EQ(second.status, Status::kIllegalAddress);
  EXPECT_TRUE(second.reason.empty());
  EXPECT_EQ(state_.calls("allocate"), 0);
}

TEST_F(ExecutorTest, PeakMemoryStaysWhenMemoryIsFreed) {
  const auto address =
      reply<protocol::MemAllocReply>(execute(protocol::MemAllocRequest{.bytes = 1000})).address;
  execute(protocol::MemFreeRequest{.address = address});
  EXPECT_EQ(counters_.block.memory_in_use_bytes, 0u);
  EXPECT_EQ(counters_.block.memory_peak_bytes, 1000u);
}

}  // namespace
}  // namespace vgpu::device
