// The session against a device that is a thread of the test: it consumes the ring and answers as the test
// scripts it.
#include "shim/session/session.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "ring/channel.h"
#include "ring/consumer.h"
#include "ring/reply.h"

namespace vgpu::shim {
namespace {

using protocol::Status;

// One channel, served until stop(). `on_record` runs on the device's thread.
class ScriptedDevice {
 public:
  using OnRecord = std::function<void(ScriptedDevice&, std::span<const std::byte> record, uint64_t position)>;

  explicit ScriptedDevice(OnRecord on_record) : on_record_(std::move(on_record)) {
    static std::atomic<int> next{0};
    path_ = "/dev/shm/vgpu-session-test-" + std::to_string(::getpid()) + "-" + std::to_string(next++);
    ring::GeometryOptions options;
    options.region_bytes = 8u << 20;
    options.channel_count = 1;
    options.ring_bytes = 64u << 10;
    bar_ = std::move(*pci::Bar::create_file(path_, options.region_bytes, options.region_bytes));
    const auto geometry = *ring::RegionGeometry::compute(options);
    ring::DeviceInfo info{};
    info.compute_major = 6;
    const auto generation = ring::format_region(bar_.bytes(), geometry, info,
                                                {.protocol_version = protocol::kProtocolVersion,
                                                 .protocol_hash = protocol::kProtocolHash,
                                                 .feature_bits = ring::kFeatureFutexDoorbell,
                                                 .vgpu_version = "test"});
    EXPECT_TRUE(generation.has_value());
    region_ = ring::RegionView(bar_.bytes(), geometry);
    view_ = region_.channel(0);
    ring::set_device_state(region_.header(), ring::DeviceState::kReady, "");
    thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedDevice() {
    stop();
    std::filesystem::remove(path_);
  }
  void stop() {
    stop_ = true;
    if (thread_.joinable()) thread_.join();
  }

  std::unique_ptr<Attachment> attach() const {
    auto attachment = Attachment::over(std::move(*pci::Bar::open_path(path_, pci::Access::kReadWrite)));
    EXPECT_TRUE(attachment.has_value()) << attachment.error().text;
    return std::move(*attachment);
  }
  // Answers the record that is being handled.
  void reply(std::span<const std::byte> record, uint64_t position, Status status,
             std::span<const std::byte> payload = {}) {
    ring::RecordHeader header;
    std::memcpy(&header, record.data(), sizeof(header));
    ring::write_reply(view_, header.reply_slot, position, static_cast<int32_t>(status), payload);
    waits_->notify_guest(ring::GuestWait::kReply, view_.reply_slot(header.reply_slot)->tag);
  }
  void defer_error(Status status) {
    const auto count = ++deferred_;
    ring::store_release(view_.control->consumer.deferred_error,
                        (count << 32) | static_cast<uint32_t>(static_cast<int32_t>(status)));
  }
  ring::ChannelControl& control() { return *view_.control; }
  ring::RegionHeader& header() { return region_.header(); }
  std::span<std::byte> bulk() { return view_.bulk; }

  std::atomic<bool> paused{false};  // consumes nothing; the heart beats
  std::atomic<bool> heart_beats{true};

 private:
  void serve() {
    ring::ChannelOwnership ownership(view_);
    waits_ = std::make_unique<ring::ConsumerWaits>(*view_.control, bar_.wait_ops(), 0);
    ring::Consumer consumer(view_.ring);
    std::vector<std::byte> record(ring::kMaxRecordBytes);
    uint64_t beats = 0;
    while (!stop_) {
      if (heart_beats) ring::store_relaxed(region_.header().status.heartbeat, ++beats);
      const auto event = ownership.poll(ring::LockState::kUnknown);
      if (event == ring::ChannelOwnership::Event::kNewOwner) {
        ownership.serve();
        consumer = ring::Consumer(view_.ring);
        waits_->notify_guest(ring::GuestWait::kServed, view_.control->served.served_nonce);
      } else if (event == ring::ChannelOwnership::Event::kOwnerGone) {
        ownership.vacate();
      }
      if (ownership.serving() && !paused) {
        while (true) {
          const auto bytes = consumer.try_read(record);
          if (!bytes || *bytes == 0) {
            EXPECT_TRUE(bytes.has_value());
            break;
          }
          on_record_(*this, std::span(record).first(*bytes), consumer.record_position());
          waits_->store_progress(consumer.position(), consumer.position());
          if (paused) break;
        }
      }
      waits_->wait([&] { return stop_ || (!paused && ownership.serving() && consumer.ready()); }, 5'000'000);
    }
  }

  OnRecord on_record_;
  std::string path_;
  pci::Bar bar_;
  ring::RegionView region_;
  ring::ChannelView view_;
  std::unique_ptr<ring::ConsumerWaits> waits_;
  uint64_t deferred_ = 0;
  std::atomic<bool> stop_{false};
  std::thread thread_;
};

std::unique_ptr<Session> open(const Attachment& attachment, SessionOptions options = {}) {
  auto session = Session::open(attachment, options);
  EXPECT_TRUE(session.has_value()) << session.error().text;
  return std::move(*session);
}

void ignore(ScriptedDevice&, std::span<const std::byte>, uint64_t) {}

void answer_ping(ScriptedDevice& device, std::span<const std::byte> record, uint64_t position) {
  protocol::PingReply reply;
  std::memcpy(&reply.cookie, record.data() + sizeof(ring::RecordHeader), sizeof(reply.cookie));
  device.reply(record, position, Status::kSuccess, std::as_bytes(std::span(&reply, 1)));
}

TEST(Session, ACallReturnsItsOwnReplyAmongManyThreads) {
  ScriptedDevice device(answer_ping);
  const auto attachment = device.attach();
  const auto session = open(*attachment);
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 80; ++t) {  // more threads than reply slots
    threads.emplace_back([&, t] {
      for (uint64_t i = 0; i < 50; ++i) {
        protocol::PingReply reply;
        ASSERT_EQ(session->call(protocol::PingRequest{.cookie = t << 32 | i}, reply), Status::kSuccess);
        ASSERT_EQ(reply.cookie, t << 32 | i);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(Session, RecordsArriveInOrderThroughAFullRing) {
  std::vector<uint64_t> seen;
  ScriptedDevice device([&](ScriptedDevice&, std::span<const std::byte> record, uint64_t) {
    uint64_t address = 0;
    std::memcpy(&address, record.data() + sizeof(ring::RecordHeader), sizeof(address));
    seen.push_back(address);
  });
  const auto attachment = device.attach();
  const auto session = open(*attachment);
  device.paused = true;
  std::thread producer([&] {
    for (uint64_t i = 0; i < 5000; ++i) {
      EXPECT_EQ(session->submit(protocol::MemFreeRequest{.address = i}, 0).status, Status::kSuccess);
    }
  });
  // The ring holds a thousand records: the producer comes to wait, and says so.
  while (ring::load_relaxed(device.control().producer.full_waits) == 0) std::this_thread::yield();
  device.paused = false;
  producer.join();
  EXPECT_EQ(session->wait_completed(session->submitted()), Status::kSuccess);
  device.stop();
  ASSERT_EQ(seen.size(), 5000u);
  for (uint64_t i = 0; i < seen.size(); ++i) ASSERT_EQ(seen[i], i);
}

TEST(Session, ABatchLargerThanTheRingArrivesWhole) {
  std::atomic<uint64_t> count{0};
  ScriptedDevice device([&](ScriptedDevice&, std::span<const std::byte>, uint64_t) { ++count; });
  const auto attachment = device.attach();
  const auto session = open(*attachment);
  uint64_t end = 0;
  {
    Session::Batch batch(*session);
    const uint64_t body = 7;
    for (int i = 0; i < 3000; ++i) {
      ASSERT_EQ(batch.add(0x0102, 0, std::as_bytes(std::span(&body, 1))), Status::kSuccess);
    }
    end = batch.end();
  }
  EXPECT_EQ(session->wait_completed(end), Status::kSuccess);
  EXPECT_EQ(count, 3000u);
}

TEST(Session, AnAsynchronousErrorIsToldOnce) {
  ScriptedDevice device(
      [](ScriptedDevice& d, std::span<const std::byte>, uint64_t) { d.defer_error(Status::kInvalidValue); });
  const auto attachment = device.attach();
  const auto session = open(*attachment);
  EXPECT_EQ(session->take_error(), Status::kSuccess);
  EXPECT_EQ(session->wait_completed(session->submit(protocol::MemFreeRequest{}, 0).end), Status::kSuccess);
  EXPECT_EQ(session->take_error(), Status::kInvalidValue);
  EXPECT_EQ(session->take_error(), Status::kSuccess);
  EXPECT_EQ(session->status(), Status::kSuccess);
}

TEST(Session, AStickyErrorStays) {
  ScriptedDevice device([](ScriptedDevice& d, std::span<const std::byte>, uint64_t position) {
    ring::store_sticky_error(d.control(), 700, position);
  });
  const auto attachment = device.attach();
  const auto session = open(*attachment);
  EXPECT_EQ(session->wait_completed(session->submit(protocol::MemFreeRequest{}, 0).end), Status::kSuccess);
  EXPECT_EQ(session->take_error(), Status::kIllegalAddress);
  EXPECT_EQ(session->take_error(), Status::kIllegalAddress);
  EXPECT_EQ(session->submit(protocol::MemFreeRequest{}, 0).status, Status::kIllegalAddress);
}

TEST(Session, ASilentHeartEndsEveryWaitForGood) {
  ScriptedDevice device(ignore);
  const auto attachment = device.attach();
  const auto session = open(*attachment, {.heartbeat_limit_ns = 300'000'000});
  device.paused = true;
  device.heart_beats = false;
  protocol::PingReply reply;
  EXPECT_EQ(session->call(protocol::PingRequest{}, reply), Status::kDeviceUnavailable);
  EXPECT_EQ(session->submit(protocol::MemFreeRequest{}, 0).status, Status::kDeviceUnavailable);
  EXPECT_EQ(session->wait_completed(~uint64_t{0}), Status::kDeviceUnavailable);
  device.heart_beats = true;
  EXPECT_EQ(session->status(), Status::kDeviceUnavailable) << "its memory is gone: it does not come back";
}

TEST(Session, AFullRingEndsWithTheDevice) {
  ScriptedDevice device(ignore);
  const auto attachment = device.attach();
  const auto session = open(*attachment);
  device.paused = true;
  std::atomic<bool> ended{false};
  std::thread producer([&] {
    while (session->submit(protocol::MemFreeRequest{}, 0).status == Status::kSuccess) {
    }
    ended = true;
  });
  while (ring::load_relaxed(device.control().producer.full_waits) == 0) std::this_thread::yield();
  EXPECT_FALSE(ended);
  ring::set_device_state(device.header(), ring::DeviceState::kDead, "the test says so");
  producer.join();
  EXPECT_EQ(session->status(), Status::kDeviceUnavailable);
}

TEST(Session, AnotherGenerationIsALostDevice) {
  ScriptedDevice device(ignore);
  const auto attachment = device.attach();
  const auto session = open(*attachment);
  device.paused = true;
  device.header().generation ^= 1;
  EXPECT_FALSE(attachment->serving());
  EXPECT_EQ(session->wait_completed(~uint64_t{0}), Status::kDeviceUnavailable);
  device.header().generation ^= 1;
}

TEST(Session, AReplyThatIsTooShortIsAnError) {
  ScriptedDevice device([](ScriptedDevice& d, std::span<const std::byte> record, uint64_t position) {
    const uint32_t half = 1;
    d.reply(record, position, Status::kSuccess, std::as_bytes(std::span(&half, 1)));
  });
  const auto attachment = device.attach();
  const auto session = open(*attachment);
  protocol::PingReply reply;
  EXPECT_EQ(session->call(protocol::PingRequest{}, reply), Status::kUnknown);
}

TEST(Session, NoFreeChannelIsSaid) {
  ScriptedDevice device(ignore);
  const auto attachment = device.attach();
  const auto session = open(*attachment);
  const auto second = Session::open(*attachment);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().status, Status::kDeviceUnavailable);
}

TEST(Session, AClosedSessionAnswersDeinitialized) {
  ScriptedDevice device(ignore);
  const auto attachment = device.attach();
  const auto session = open(*attachment);
  session->close_at_exit();
  EXPECT_EQ(session->submit(protocol::MemFreeRequest{}, 0).status, Status::kDeinitialized);
  EXPECT_EQ(session->wait_completed(~uint64_t{0}), Status::kDeinitialized);
}

}  // namespace
}  // namespace vgpu::shim
