// Every inlined access to the region, compiled once so that no_locked_instructions.cmake can look at the
// code.
#include <cstring>

#include "ring/consumer.h"
#include "ring/heartbeat.h"
#include "ring/producer.h"
#include "ring/reply.h"
#include "ring/wait.h"

namespace vgpu::ring::test {

uint64_t use_producer(Producer& producer, GuestWaits& waits, uint32_t bytes) {
  std::byte* record = producer.try_reserve(bytes);
  if (record == nullptr) {
    return 0;
  }
  const uint64_t start = producer.commit();
  producer.publish();
  waits.notify_consumer();
  return start;
}

uint32_t use_consumer(Consumer& consumer, ConsumerWaits& waits, std::span<std::byte> out) {
  const auto got = consumer.try_read(out);
  if (got && *got == 0) {
    waits.store_progress(consumer.position(), consumer.position());
    return waits.wait([&] { return consumer.ready(); }, 1000) ? 1U : 0U;
  }
  return got ? *got : 0U;
}

bool use_replies(const ChannelView& channel, const ConsumerWaits& device, GuestWaits& guest,
                 DeviceWatch& watch) {
  if (!write_reply(channel, 1, 64, 0, {})) {
    return false;
  }
  const uint64_t& tag = channel.reply_slot(1)->tag;
  device.notify_guest(GuestWait::kReply, tag);
  const auto alive =
      wait_while_alive(guest, watch, GuestWait::kReply, tag, [](uint64_t value) { return value == 65; });
  return alive && read_reply(channel, 1).status == 0;
}

void use_heartbeat(RegionHeader& header) {
  advance_heartbeat(header);
}

}  // namespace vgpu::ring::test
