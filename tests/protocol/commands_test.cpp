// The command table: opcodes, the checks that follow from it, and the dispatch.
#include "protocol/commands.h"

#include <gtest/gtest.h>

#include <set>
#include <string>
#include <vector>

#include "protocol/status.h"

namespace vgpu::protocol {
namespace {

constexpr Limits kLimits{.window_base = 0x1000, .window_bytes = 0x10000, .bulk_bytes = 0x2000};

struct Recorder {
  std::vector<std::string> seen;
  template <typename Request>
  void on(const Request&, std::span<const std::byte> tail) {
    seen.push_back(std::string(kCommands[command_index(static_cast<uint16_t>(Request::kOpcode))].name) + "+" +
                   std::to_string(tail.size()));
  }
};

template <typename Request>
DispatchOutcome send(const Request& request, Recorder& recorder, size_t tail = 0) {
  std::vector<std::byte> body(kWireBytes<Request> + tail);
  if constexpr (kWireBytes<Request> > 0) std::memcpy(body.data(), &request, sizeof request);
  return dispatch(static_cast<uint16_t>(Request::kOpcode), body, kLimits, recorder);
}

TEST(Commands, OpcodesAndNamesAreUniqueAndNeverThePadding) {
  std::set<uint16_t> opcodes;
  std::set<std::string_view> names;
  for (const auto& command : kCommands) {
    EXPECT_NE(static_cast<uint16_t>(command.opcode), 0) << command.name;
    EXPECT_TRUE(opcodes.insert(static_cast<uint16_t>(command.opcode)).second) << command.name;
    EXPECT_TRUE(names.insert(command.name).second) << command.name;
  }
}

TEST(Commands, CommandsWithAReplyAreSynchronous) {
  for (const auto& command : kCommands) {
    EXPECT_TRUE(command.reply_bytes == 0 || command.mode == Mode::kSync) << command.name;
  }
}

TEST(Commands, DispatchReachesTheHandlerOfEveryCommandThatPassesItsChecks) {
  Recorder recorder;
  EXPECT_EQ(send(PingRequest{.cookie = 7}, recorder).result, DispatchResult::kHandled);
  EXPECT_EQ(send(MemGetInfoRequest{}, recorder).result, DispatchResult::kHandled);
  EXPECT_EQ(send(CopyInlineRequest{.destination = 0x1000}, recorder, 16).result, DispatchResult::kHandled);
  EXPECT_EQ(recorder.seen, (std::vector<std::string>{"Ping+0", "MemGetInfo+0", "CopyInline+16"}));
}

TEST(Commands, AnUnknownOpcodeIsReported) {
  Recorder recorder;
  EXPECT_EQ(dispatch(0xffff, {}, kLimits, recorder).result, DispatchResult::kUnknownOpcode);
  EXPECT_EQ(dispatch(0, {}, kLimits, recorder).result, DispatchResult::kUnknownOpcode);
  EXPECT_EQ(command_index(0xffff), kCommandCount);
}

TEST(Commands, ATruncatedRecordIsReported) {
  Recorder recorder;
  const std::vector<std::byte> body(sizeof(LaunchRequest) - 1);
  const auto outcome = dispatch(static_cast<uint16_t>(Opcode::kLaunch), body, kLimits, recorder);
  EXPECT_EQ(outcome.result, DispatchResult::kTruncated);
  EXPECT_EQ(outcome.command, "Launch");
  EXPECT_TRUE(recorder.seen.empty());
}

TEST(Commands, AFailedCheckNamesItselfAndTheHandlerIsNotCalled) {
  Recorder recorder;
  const auto outcome = send(MemAllocRequest{.bytes = 0}, recorder);
  EXPECT_EQ(outcome.result, DispatchResult::kCheckFailed);
  EXPECT_EQ(outcome.failed_check, "r.bytes > 0");
  EXPECT_TRUE(recorder.seen.empty());
}

TEST(Commands, ATailWhereNoneBelongsIsRefused) {
  Recorder recorder;
  EXPECT_EQ(send(PingRequest{}, recorder, 1).result, DispatchResult::kCheckFailed);
}

TEST(Limits, RangesAreCheckedWithoutOverflow) {
  EXPECT_TRUE(kLimits.device_range(0x1000, 0x10000));
  EXPECT_FALSE(kLimits.device_range(0x1001, 0x10000));
  EXPECT_FALSE(kLimits.device_range(0x0fff, 1));
  EXPECT_FALSE(kLimits.device_range(0x1000, ~uint64_t{0}));
  EXPECT_FALSE(kLimits.device_range(~uint64_t{0}, 2));
  EXPECT_TRUE(kLimits.bulk_rows(0, 0x1000, 2, 0x1000));
  EXPECT_FALSE(kLimits.bulk_rows(1, 0x1000, 2, 0x1000));
  EXPECT_FALSE(kLimits.bulk_rows(0, 0x10, 3, 0x8));
  EXPECT_FALSE(kLimits.bulk_rows(0, 2, ~uint64_t{0}, 2));
  EXPECT_FALSE(kLimits.bulk_rows(0, 1, uint64_t{1} << 63, uint64_t{1} << 62));
  EXPECT_TRUE(kLimits.bulk_rows(~uint64_t{0}, 0, 5, 0));
}

TEST(Status, StickyErrorsAreTheOnesCudaCallsSticky) {
  EXPECT_TRUE(is_sticky(Status::kIllegalAddress));
  EXPECT_TRUE(is_sticky(Status::kLaunchFailed));
  EXPECT_FALSE(is_sticky(Status::kInvalidValue));
  EXPECT_FALSE(is_sticky(Status::kOutOfMemory));
}

}  // namespace
}  // namespace vgpu::protocol
