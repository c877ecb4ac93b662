// The ring under load: a guest of several threads sends numbered records of random sizes, some of which want
// an answer; a device checks every byte of them. Both stall and sleep at random. Everything follows from a
// seed.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "ring/fence.h"
#include "ring/region.h"

namespace vgpu::ring::stress {

struct Options {
  uint64_t records = 1'000'000;
  uint64_t seconds = 0;  // stop after them, whatever `records` says; 0: no limit
  uint64_t seed = 1;
  uint64_t start = 0;  // position of the first record, a multiple of 64
  uint32_t guest_threads = 3;
  uint64_t spin_ns = 2'000;          // before a side goes to sleep
  Fences fences = Fences::kSleeper;  // needs register_for_remote_fences() on both sides
};

inline constexpr std::size_t kRingBytes = 64 * 1024;
inline constexpr uint32_t kReplyCount = 64;
inline constexpr uint32_t kReplyBytes = 1024;
inline constexpr std::size_t kChannelBytes =
    sizeof(ChannelControl) + kRingBytes + std::size_t{kReplyCount} * kReplyBytes;

// A channel in `memory`: zeroed, page aligned, kChannelBytes long.
ChannelView channel_in(std::span<std::byte> memory);
// Before either side runs, unless it starts at position 0.
void set_start(const ChannelView& channel, uint64_t start);

struct Figures {
  uint64_t records = 0;
  uint64_t bytes = 0;
  uint64_t replies = 0;
  uint64_t full_waits = 0;
};

// Each returns an empty text, or what went wrong. They run until the guest has sent its last record, or one
// of them has found something wrong; no wait lasts longer than half a minute.
std::string run_guest(const ChannelView& channel, const Options& options, Figures& figures);
std::string run_device(const ChannelView& channel, const Options& options, Figures& figures);

}  // namespace vgpu::ring::stress
