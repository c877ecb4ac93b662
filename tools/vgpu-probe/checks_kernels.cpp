// vgpu-probe test: kernels with known answers, a matrix product, events.
#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <numeric>
#include <string_view>
#include <vector>

#include "tools/vgpu-probe/kernels.h"
#include "tools/vgpu-probe/suite.h"

namespace vgpu::tools {
namespace {

using protocol::Status;

Trouble wrong_value(std::string_view what, std::size_t index, double got, double want) {
  return {fmt::format("{} {} is {}, must be {}", what, index, got, want),
          "look into the device's log; on a software device, delete its cache of compiled kernels"};
}

template <typename T>
Try<std::vector<T>> results(Client& client, std::string_view what, uint64_t address, std::size_t count) {
  std::vector<T> values(count);
  if (const Status status = client.copy_out(std::as_writable_bytes(std::span(values)), address);
      status != Status::kSuccess) {
    return std::unexpected(client.trouble(what, status));
  }
  if (auto done = client.finish(what); !done) return std::unexpected(done.error());
  return values;
}

Try<std::string> arithmetic(Client& client, const Kernels& kernels) {
  constexpr uint32_t kCount = 10'000;
  std::vector<float> x(kCount);
  std::vector<float> y(kCount);
  for (uint32_t i = 0; i < kCount; ++i) {
    x[i] = static_cast<float>(i);
    y[i] = static_cast<float>(3 * i + 1);
  }
  const auto dx = DeviceMemory::allocate(client, kCount * 4);
  if (!dx) return std::unexpected(dx.error());
  const auto dy = DeviceMemory::allocate(client, kCount * 4);
  if (!dy) return std::unexpected(dy.error());
  client.copy_in(dx->address(), std::as_bytes(std::span(x)));
  client.copy_in(dy->address(), std::as_bytes(std::span(y)));
  kernels.launch("scale_add", (kCount + 255) / 256, 256, dx->address(), dy->address(), 0.5F, kCount);
  const auto got = results<float>(client, "scale_add", dy->address(), kCount);
  if (!got) return std::unexpected(got.error());
  for (uint32_t i = 0; i < kCount; ++i) {
    const float want = 0.5F * x[i] + y[i];
    if ((*got)[i] != want) return std::unexpected(wrong_value("a*x+y: element", i, (*got)[i], want));
  }
  return fmt::format("a*x+y over {} elements", kCount);
}

Try<std::string> shared_memory(Client& client, const Kernels& kernels) {
  constexpr uint32_t kBlocks = 32;
  constexpr uint32_t kCount = kBlocks * 256;
  std::vector<uint32_t> input(kCount);
  uint32_t want = 0;
  for (uint32_t i = 0; i < kCount; ++i) want += input[i] = (i * 2654435761U) >> 12;
  const auto in = DeviceMemory::allocate(client, kCount * 4);
  if (!in) return std::unexpected(in.error());
  const auto out = DeviceMemory::allocate(client, 4);
  if (!out) return std::unexpected(out.error());
  const uint32_t zero = 0;
  client.copy_in(in->address(), std::as_bytes(std::span(input)));
  client.copy_in(out->address(), std::as_bytes(std::span(&zero, 1)));
  kernels.launch("block_sum", kBlocks, 256, in->address(), out->address());
  const auto got = results<uint32_t>(client, "block_sum", out->address(), 1);
  if (!got) return std::unexpected(got.error());
  if (got->front() != want) return std::unexpected(wrong_value("block sums: total", 0, got->front(), want));
  return fmt::format("{} blocks, barriers, atomic additions", kBlocks);
}

Try<std::string> divergence(Client& client, const Kernels& kernels) {
  constexpr uint32_t kCount = 1000;
  const auto out = DeviceMemory::allocate(client, kCount * 4);
  if (!out) return std::unexpected(out.error());
  kernels.launch("collatz", (kCount + 127) / 128, 128, out->address(), kCount);
  const auto got = results<uint32_t>(client, "collatz", out->address(), kCount);
  if (!got) return std::unexpected(got.error());
  for (uint32_t i = 0; i < kCount; ++i) {
    uint32_t steps = 0;
    for (uint32_t value = i + 1; value != 1; ++steps) value = value % 2 == 0 ? value / 2 : 3 * value + 1;
    if ((*got)[i] != steps) return std::unexpected(wrong_value("steps of", i + 1, (*got)[i], steps));
  }
  return fmt::format("{} threads, loops of all lengths", kCount);
}

Try<std::string> pinned(Client& client, const Kernels& kernels) {
  constexpr uint32_t kCount = 1000;
  auto host = PinnedMemory::allocate(client, uint64_t{kCount} * 4);
  if (!host) return std::unexpected(host.error());
  const auto bulk = client.call("BulkAddress", protocol::BulkAddressRequest{}, protocol::BulkAddressReply{});
  if (!bulk) return std::unexpected(bulk.error());
  auto& heap = client.session().bulk();
  const std::vector<std::byte> zeros(kCount * 4);
  heap.copy().store(host->bytes().data(), zeros.data(), zeros.size());
  kernels.launch("collatz", (kCount + 127) / 128, 128, bulk->address + heap.offset_of(host->bytes().data()),
                 kCount);
  if (auto done = client.finish("collatz"); !done) return std::unexpected(done.error());
  std::vector<uint32_t> got(kCount);
  heap.copy().load(reinterpret_cast<std::byte*>(got.data()), host->bytes().data(), kCount * 4);
  // 27 takes 111 steps, as everybody knows.
  if (got[26] != 111) return std::unexpected(wrong_value("steps of", 27, got[26], 111));
  return "a kernel writes into the host's pinned memory";
}

Try<std::string> product(Client& client) {
  constexpr int64_t kM = 5;
  constexpr int64_t kN = 4;
  constexpr int64_t kK = 3;
  std::vector<float> a(kM * kK);
  std::vector<float> b(kK * kN);
  std::vector<float> c(kM * kN);
  std::iota(a.begin(), a.end(), 1.0F);
  std::iota(b.begin(), b.end(), -4.0F);
  std::iota(c.begin(), c.end(), 2.0F);
  constexpr std::size_t kFloat = sizeof(float);
  const auto memory = DeviceMemory::allocate(client, 3 * 256);
  if (!memory) return std::unexpected(memory.error());
  const uint64_t da = memory->address();
  client.copy_in(da, std::as_bytes(std::span(a)));
  client.copy_in(da + 256, std::as_bytes(std::span(b)));
  client.copy_in(da + 512, std::as_bytes(std::span(c)));
  protocol::GemmRequest request;
  request.a = da;
  request.b = da + 256;
  request.c = da + 512;
  request.alpha = std::bit_cast<uint64_t>(2.0);
  request.beta = std::bit_cast<uint64_t>(-1.0);
  request.m = request.lda = request.ldc = kM;
  request.n = kN;
  request.k = request.ldb = kK;
  request.batch_count = 1;
  request.compute_type = 68;  // CUBLAS_COMPUTE_32F; the matrices' types are 0, CUDA_R_32F
  client.session().submit(request, 0);
  const auto got = results<float>(client, "Gemm", da + 512, c.size());
  if (!got) return std::unexpected(got.error());
  static_assert(kM * kK * kFloat <= 256);
  for (int64_t j = 0; j < kN; ++j) {
    for (int64_t i = 0; i < kM; ++i) {
      const auto at = static_cast<std::size_t>(j * kM + i);
      float sum = 0;
      for (int64_t l = 0; l < kK; ++l) {
        sum += a[static_cast<std::size_t>(l * kM + i)] * b[static_cast<std::size_t>(j * kK + l)];
      }
      if ((*got)[at] != 2 * sum - c[at]) {
        return std::unexpected(wrong_value("matrix product: element", at, (*got)[at], 2 * sum - c[at]));
      }
    }
  }
  return fmt::format("{} x {} x {}", kM, kN, kK);
}

Try<std::string> events(Client& client, const Kernels& kernels) {
  const auto out = DeviceMemory::allocate(client, 4);
  if (!out) return std::unexpected(out.error());
  const uint32_t first = client.new_handle();
  const uint32_t second = client.new_handle();
  client.session().submit(protocol::EventRecordRequest{.event = first}, 0);
  kernels.launch("collatz", 1, 32, out->address(), 1U);
  client.session().submit(protocol::EventRecordRequest{.event = second}, 0);
  if (auto done = client.finish("EventRecord"); !done) return std::unexpected(done.error());
  const auto before =
      client.call("EventTime", protocol::EventTimeRequest{.event = first}, protocol::EventTimeReply{});
  const auto after =
      client.call("EventTime", protocol::EventTimeRequest{.event = second}, protocol::EventTimeReply{});
  for (const uint32_t event : {first, second}) {
    client.session().submit(protocol::EventDestroyRequest{.event = event}, 0);
  }
  if (!before) return std::unexpected(before.error());
  if (!after) return std::unexpected(after.error());
  if (after->time < before->time) {
    return std::unexpected(Trouble{"the event after a kernel is earlier than the one before it", ""});
  }
  return "in the order of their records";
}

}  // namespace

void check_kernels(Suite& suite, Client& client) {
  suite.begin("kernels");
  std::unique_ptr<Kernels> kernels;
  const bool loaded = suite.check("module", [&]() -> Try<std::string> {
    auto got = Kernels::load(client);
    if (!got) return std::unexpected(got.error());
    kernels = std::move(*got);
    return fmt::format("PTX of {} kernels", kernels->count());
  });
  const auto check = [&](const char* name, auto body) {
    if (loaded) {
      suite.check(name, [&] { return body(client, *kernels); });
    } else {
      suite.skip(name, "the module did not load");
    }
  };
  check("arithmetic", arithmetic);
  check("shared memory", shared_memory);
  check("divergence", divergence);
  check("pinned memory", pinned);
  check("events", events);
  suite.check("matrix product", [&] { return product(client); });
}

}  // namespace vgpu::tools
