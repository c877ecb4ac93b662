// Fuzzes the executor of records: any bytes as records of one channel, against a backend in plain memory. The
// input is a sequence of records, each led by its length; the bulk heap holds the input, too.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "device/server/executor.h"
#include "tests/device/server/fake_backend.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace vgpu;
  using device::testing::FakeContext;
  using device::testing::FakeState;

  std::vector<std::byte> bulk(65536);
  std::memcpy(bulk.data(), data, size < bulk.size() ? size : bulk.size());
  device::ExecutorConfig config;
  config.limits.window_base = device::testing::kFakeWindowBase;
  config.limits.window_bytes = device::testing::kFakeWindowBytes;
  config.limits.bulk_bytes = bulk.size();
  config.limits.max_image_bytes = 1u << 20;
  config.image_bytes = 1u << 20;
  config.bulk = bulk;
  FakeState state;
  FakeContext context(state);
  context.cancel();  // its blocking kernel must not block
  device::Counters counters;
  device::Executor executor(context, config, counters);

  std::vector<std::byte> record;
  uint64_t executed = 0;
  while (size >= 2) {
    const size_t want = data[0] | (data[1] & 0x3f) << 8;
    data += 2;
    size -= 2;
    const size_t bytes = want < size ? want : size;
    record.resize(bytes);
    if (bytes > 0) std::memcpy(record.data(), data, bytes);
    data += bytes;
    size -= bytes;
    const auto outcome = executor.execute(record);
    ++executed;
    if (outcome.reply.size() > config.reply_payload_bytes) __builtin_trap();
    if (outcome.status != protocol::Status::kSuccess && !outcome.reply.empty()) __builtin_trap();
  }
  executor.finish();
  if (counters.block.commands != executed) __builtin_trap();
  return 0;
}
