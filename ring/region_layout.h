// The layout of the region: what guest and host find at which byte of the shared file or BAR
// (docs/region.md). Every change here changes kLayoutVersion. Little-endian, fixed-width, offsets only: each
// side maps the region at another address, and the guest may write any byte at any time, so the host never
// trusts what it reads here.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace vgpu::ring {

static_assert(std::endian::native == std::endian::little, "the region is little-endian");

inline constexpr uint64_t kRegionMagic = 0x3147'5255'5047'5621;  // "!VGPURG1" in memory
inline constexpr uint32_t kLayoutVersion = 3;

inline constexpr uint64_t kSlotBytes = 64;              // a record starts at a multiple of this
inline constexpr uint32_t kMaxRecordBytes = 16 * 1024;  // header included
inline constexpr uint16_t kPaddingOpcode = 0;  // fills the ring's end; never seen by a consumer's caller
inline constexpr uint16_t kNoReply = 0xffff;   // RecordHeader::reply_slot of a command without reply
inline constexpr uint32_t kMaxChannels = 64;
inline constexpr uint32_t kOpcodeCount = 128;     // counters by command: most commands a protocol may have
inline constexpr uint32_t kAttributeCount = 256;  // CUdevice_attribute numbers 0..255
inline constexpr uint32_t kReplyHeaderBytes = 16;

inline constexpr uint32_t kMaxDoorbellPeer = 0xffff;  // half of ivshmem's doorbell register

// Byte ranges of the region's file that open-file-description locks are taken on (ring/channel_lock.h).
inline constexpr uint64_t kDeviceLockByte = 2048;        // held by the device that serves the region
inline constexpr uint64_t kChannelLockBase = 2048 + 64;  // + channel index: held by the channel's owner

// Who writes what is fixed: a block is written by one side only, and blocks of different writers stand on
// different pairs of cache lines, since hardware prefetches lines in pairs.
inline constexpr std::size_t kLinePairBytes = 128;

enum class DeviceState : uint32_t {
  kAbsent = 0,    // the file is there, nobody formatted it
  kStarting = 1,  // formatted; channels are not served yet
  kReady = 2,     // channels are served
  kStopping = 3,  // no new owner is served
  kStopped = 4,   // the device ended on purpose
  kDead = 5,      // the supervisor found the worker dead
};

enum class ChannelState : uint32_t {
  kFree = 0,       // no owner
  kResetting = 1,  // between owners
  kServed = 2,     // the owner in served_nonce is served
  kFailed = 3,  // the owner broke the ring's rules; nothing of it is executed any more (last_error says why)
};

enum FeatureBits : uint64_t {
  kFeatureFutexDoorbell =
      1u << 0,                     // both sides share one kernel: parked sides sleep on futexes in the region
  kFeatureOwnerLocks = 1u << 1,    // the device sees the owners' locks, so a dead owner is noticed at once
  kFeatureRemoteFences = 1u << 2,  // the device can do as an owner with Fences::kSleeper asks (ring/fence.h)
  // The device listens to the doorbell register of QEMU's ivshmem-doorbell, where the guest has one: after
  // changing DoorbellBlock::doorbell of channel i, a 4-byte store of doorbell_peer << 16 | i to byte 12 of
  // BAR0.
  kFeatureIvshmemDoorbell = 1u << 3,
};

// Written by the device. Everything but `status` is constant once `magic` is there.
struct alignas(kLinePairBytes) DeviceStatus {
  uint32_t device_state;  // DeviceState
  uint32_t worker_pid;    // host process that serves the channels; 0: none
  uint64_t heartbeat;     // grows at least 10 times a second while the state is kStarting..kStopping
  uint64_t started_unix_ns;
  uint64_t memory_in_use_bytes;  // device memory of all channels together
  uint32_t channels_served;      // channels with an owner now
  uint32_t reserved;
  char reason[88];  // why the state is what it is, NUL-terminated; empty if it needs no words
};
static_assert(sizeof(DeviceStatus) == 128);
static_assert(offsetof(DeviceStatus, heartbeat) == 8);
static_assert(offsetof(DeviceStatus, memory_in_use_bytes) == 24);
static_assert(offsetof(DeviceStatus, reason) == 40);

// The device's figures: of one owner in its channel's control page (reset with the channel), and of all
// owners since the device started in the header.
struct alignas(kLinePairBytes) CounterBlock {
  uint64_t commands;
  uint64_t launches;
  uint64_t bytes_to_device;
  uint64_t bytes_from_device;
  uint64_t bytes_on_device;  // copied from device memory to device memory
  uint64_t memory_in_use_bytes;
  uint64_t memory_peak_bytes;
  uint64_t replies;
  uint64_t errors;         // commands that ended in an error
  uint64_t not_supported;  // of these, those that are not implemented
  uint64_t busy_ns;        // time spent executing commands
  uint64_t kernel_ns;      // of this, time inside kernels
  uint64_t kernels_compiled;
  uint64_t compile_ns;
  uint64_t batches;  // times the consumer found work; commands / batches = mean batch
  uint64_t blas_calls;
  uint64_t graph_launches;
  uint8_t reserved[512 - 17 * 8];
};
static_assert(sizeof(CounterBlock) == 512);

struct RegionHeader {
  uint64_t magic;           // kRegionMagic; stored last, with release
  uint32_t layout_version;  // kLayoutVersion
  uint32_t protocol_version;
  uint64_t protocol_hash;
  uint64_t region_bytes;  // a power of two
  uint64_t feature_bits;  // FeatureBits
  uint64_t generation;    // random, not 0, new at each start of the device
  uint64_t device_info_offset;
  uint64_t device_info_bytes;
  uint64_t channels_offset;  // channel i starts at channels_offset + i * channel_stride
  uint64_t channel_stride;
  uint32_t channel_count;
  uint32_t reply_count;    // reply slots per channel
  uint32_t reply_bytes;    // bytes of one reply slot, its 16-byte head included
  uint32_t doorbell_peer;  // the device's ivshmem peer id, 0..65535; means something with
                           // kFeatureIvshmemDoorbell
  uint64_t ring_offset;    // these offsets count from the channel's start
  uint64_t ring_bytes;     // a power of two
  uint64_t replies_offset;
  uint64_t bulk_offset;
  uint64_t bulk_bytes;
  char vgpu_version[64];  // text, NUL-terminated
  uint8_t reserved1[1024 - 208];
  DeviceStatus status;
  uint8_t reserved2[2560 - 1024 - 128];  // bytes 2048..2175 are never stored to: locks are taken on them
  CounterBlock totals;  // device: all channels since the device started, closed ones included
  uint64_t opcode_totals[kOpcodeCount];  // device: commands executed, by index in protocol::kCommands
};
static_assert(sizeof(RegionHeader) == 4096);
static_assert(offsetof(RegionHeader, layout_version) == 8);
static_assert(offsetof(RegionHeader, protocol_hash) == 16);
static_assert(offsetof(RegionHeader, generation) == 40);
static_assert(offsetof(RegionHeader, channels_offset) == 64);
static_assert(offsetof(RegionHeader, channel_count) == 80);
static_assert(offsetof(RegionHeader, doorbell_peer) == 92);
static_assert(offsetof(RegionHeader, ring_offset) == 96);
static_assert(offsetof(RegionHeader, bulk_bytes) == 128);
static_assert(offsetof(RegionHeader, vgpu_version) == 136);
static_assert(offsetof(RegionHeader, status) == 1024);
static_assert(offsetof(RegionHeader, totals) == 2560);
static_assert(offsetof(RegionHeader, opcode_totals) == 3072);

// What never changes about the device: read once by the guest, so that properties and attributes need no
// round trip. Written by the device before `magic`, constant after it.
struct DeviceInfo {
  char name[256];  // NUL-terminated, as CUDA reports it
  uint8_t uuid[16];
  int32_t compute_major;
  int32_t compute_minor;
  uint64_t total_memory_bytes;
  uint64_t va_base;  // device virtual addresses handed to the guest lie in [va_base, va_base + va_bytes)
  uint64_t va_bytes;
  int32_t driver_version;  // as cuDriverGetVersion: 1000 * major + 10 * minor
  uint32_t pci_domain;
  uint32_t pci_bus;
  uint32_t pci_device;
  uint32_t pci_function;
  uint32_t reserved;
  uint8_t luid[8];
  char driver_version_text[80];  // as NVML reports it ("550.54.15"), NUL-terminated
  uint64_t
      attribute_known[kAttributeCount / 64];  // bit n: attributes[n] is meant; else the attribute is unknown
  uint8_t reserved1[1024 - 448];
  int32_t attributes[kAttributeCount];  // value of CUdevice_attribute n at index n
  uint8_t reserved2[4096 - 2048];
};
static_assert(sizeof(DeviceInfo) == 4096);
static_assert(offsetof(DeviceInfo, uuid) == 256);
static_assert(offsetof(DeviceInfo, compute_major) == 272);
static_assert(offsetof(DeviceInfo, total_memory_bytes) == 280);
static_assert(offsetof(DeviceInfo, va_base) == 288);
static_assert(offsetof(DeviceInfo, driver_version) == 304);
static_assert(offsetof(DeviceInfo, pci_function) == 320);
static_assert(offsetof(DeviceInfo, luid) == 328);
static_assert(offsetof(DeviceInfo, driver_version_text) == 336);
static_assert(offsetof(DeviceInfo, attribute_known) == 416);
static_assert(offsetof(DeviceInfo, attributes) == 1024);

// ---- A channel's control page. Guest-written blocks first, device-written ones after them. ----

// Who claims the channel. Written by the guest that holds the channel's lock; `nonce` last.
struct alignas(kLinePairBytes) OwnerBlock {
  uint64_t nonce;  // random, new for each claim; 0: nobody
  uint32_t pid;    // in the guest's own numbering
  uint32_t protocol_version;
  uint64_t protocol_hash;
  uint64_t generation;  // RegionHeader::generation the owner attached to
  uint64_t claimed_unix_ns;
  char process_name[32];  // NUL-terminated
  uint32_t fences;        // Fences: who pays for the fence between waking and sleeping
  uint32_t reserved0;
  uint64_t lock_boot;  // LockDomain of the owner's lock (ring/channel_lock.h)
  uint64_t lock_device;
  uint8_t reserved[256 - 96];
};
static_assert(sizeof(OwnerBlock) == 256);
static_assert(offsetof(OwnerBlock, fences) == 72);
static_assert(offsetof(OwnerBlock, lock_boot) == 80);
static_assert(offsetof(OwnerBlock, process_name) == 40);

// The producer's figures, for vgpu-probe. The consumer never reads them.
struct alignas(kLinePairBytes) ProducerBlock {
  uint64_t published;    // everything before this position is visible to the consumer
  uint64_t full_waits;   // times the producer found the ring full and waited
  uint64_t round_trips;  // commands whose reply the guest waited for
  uint64_t guest_parks;  // times a guest thread went to sleep waiting for the device
  uint8_t reserved[128 - 32];
};
static_assert(sizeof(ProducerBlock) == 128);

// How many guest threads sleep, by the word they sleep on (ring/wait.h).
struct alignas(kLinePairBytes) GuestParkBlock {
  uint32_t on_reply;      // on a ReplySlot::tag
  uint32_t on_completed;  // on ConsumerBlock::completed
  uint32_t on_consumed;   // on ConsumerBlock::consumed
  uint32_t on_served;     // on ServedBlock::served_nonce
  uint8_t reserved[128 - 16];
};
static_assert(sizeof(GuestParkBlock) == 128);

// The word the consumer sleeps on; the guest changes it to wake the consumer.
struct alignas(kLinePairBytes) DoorbellBlock {
  uint32_t doorbell;
  uint8_t reserved[128 - 4];
};
static_assert(sizeof(DoorbellBlock) == 128);

// How far the device has come.
struct alignas(kLinePairBytes) ConsumerBlock {
  uint64_t completed;     // every record before this position has been executed
  uint64_t consumed;      // ring space before this position may be overwritten
  uint32_t sticky_error;  // CUresult that every later call gets; 0: none. Stored after its position.
  uint32_t reserved0;
  uint64_t sticky_error_position;  // start position of the record that failed
  // The newest failure of an asynchronous command that does not end the context, in one word so that one load
  // reads it: low half its CUresult, high half how many there were since the reset. Stored before `completed`
  // passes the record: the guest's synchronising call takes the low half when the high half differs from what
  // it saw last.
  uint64_t deferred_error;
  uint64_t deferred_error_position;  // start position of that record
  uint8_t reserved[128 - 48];
};
static_assert(sizeof(ConsumerBlock) == 128);

struct alignas(kLinePairBytes) ParkBlock {
  // Not 0: the consumer sleeps, or is about to: ring the doorbell, once for each value.
  uint32_t consumer_parked;
  uint32_t reserved0;
  uint64_t parks;  // times it slept
  uint8_t reserved[128 - 16];
};
static_assert(sizeof(ParkBlock) == 128);

struct alignas(kLinePairBytes) ServedBlock {
  uint64_t served_nonce;  // the owner whose records are executed; 0: nobody. Stored after the reset.
  uint32_t state;         // ChannelState
  uint32_t epoch;         // grows by one at each reset
  uint64_t reset_count_dead_owner;  // resets because the owner died without saying so
  uint8_t reserved[128 - 24];
  char last_error[256];      // reason of the newest error on this channel, NUL-terminated
  uint32_t last_error_code;  // CUresult
  uint32_t last_error_opcode;
  uint64_t last_error_position;
  uint8_t reserved1[128 - 16];
};
static_assert(sizeof(ServedBlock) == 512);
static_assert(offsetof(ServedBlock, last_error) == 128);
static_assert(offsetof(ServedBlock, last_error_code) == 384);

struct alignas(4096) ChannelControl {
  OwnerBlock owner;           // guest
  ProducerBlock producer;     // guest
  GuestParkBlock guest_park;  // guest
  DoorbellBlock doorbell;     // guest
  uint8_t reserved0[128];
  ConsumerBlock consumer;  // device
  ParkBlock park;          // device
  ServedBlock served;      // device
  uint8_t reserved1[1024];
  CounterBlock counters;                 // device
  uint64_t opcode_counts[kOpcodeCount];  // device: commands executed, by index in protocol::kCommands
};
static_assert(sizeof(ChannelControl) == 4096);
static_assert(offsetof(ChannelControl, producer) == 0x100);
static_assert(offsetof(ChannelControl, guest_park) == 0x180);
static_assert(offsetof(ChannelControl, doorbell) == 0x200);
static_assert(offsetof(ChannelControl, consumer) == 0x300);
static_assert(offsetof(ChannelControl, park) == 0x380);
static_assert(offsetof(ChannelControl, served) == 0x400);
static_assert(offsetof(ChannelControl, counters) == 0xa00);
static_assert(offsetof(ChannelControl, opcode_counts) == 0xc00);

// Head of a reply slot; the payload follows, up to reply_bytes - 16. Written by the device: payload, then
// status and bytes, then tag.
struct ReplySlot {
  uint64_t tag;    // start position of the record it answers, + 1
  int32_t status;  // CUresult
  uint32_t bytes;  // payload bytes
};
static_assert(sizeof(ReplySlot) == kReplyHeaderBytes);

// Head of a record. `commit` is the ring's own: an encoder writes everything after it, never it.
struct RecordHeader {
  uint64_t commit;  // low half: bytes, header included; high half: sequence, low 32 bits of position / 64 + 1
  uint16_t opcode;  // protocol/; kPaddingOpcode is the ring's
  uint16_t reply_slot;  // index of the reply slot to answer in, or kNoReply
  uint32_t stream;      // the guest's name of the CUDA stream
};
static_assert(sizeof(RecordHeader) == 16);
static_assert(offsetof(RecordHeader, opcode) == 8);
static_assert(offsetof(RecordHeader, reply_slot) == 10);
static_assert(offsetof(RecordHeader, stream) == 12);

constexpr uint64_t make_commit(uint32_t bytes, uint64_t position) noexcept {
  const auto sequence = static_cast<uint32_t>(position / kSlotBytes + 1);
  return (uint64_t{sequence} << 32) | bytes;
}
constexpr uint32_t commit_bytes(uint64_t commit) noexcept {
  return static_cast<uint32_t>(commit);
}
constexpr uint32_t commit_sequence(uint64_t commit) noexcept {
  return static_cast<uint32_t>(commit >> 32);
}
constexpr uint64_t round_up_to_slot(uint64_t bytes) noexcept {
  return (bytes + kSlotBytes - 1) & ~(kSlotBytes - 1);
}

}  // namespace vgpu::ring
