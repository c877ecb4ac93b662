// Copies of all sizes beside memcpy. For one size all ways are measured in turn, copy by copy, so that none
// has the machine to itself; the first case of a size that a round asks for measures them all.
#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "bench/transport/cases.h"
#include "bench/transport/measure.h"

namespace vgpu::bench {
namespace {

constexpr std::size_t kSizes[] = {64,      256,     1 << 10,  4 << 10,  16 << 10,  64 << 10, 256 << 10,
                                  1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20, 1 << 30};
constexpr std::size_t kMostQuick = 64 << 20;
constexpr std::size_t kHugePage = 2 << 20;
constexpr unsigned kFewest = 3;
// A round does not take longer for the small sizes than their figures need.
constexpr unsigned kMost = 20'000;
// A small copy takes less than the clock: as many as this makes are timed together.
constexpr std::size_t kTogether = 32 << 10;
constexpr std::size_t kMostTogether = 64;

// Ordinary memory of a program, every page present. Aligned as the largest mappings are, so that all ways
// copy between equally aligned addresses.
class HostBuffer {
 public:
  enum class Pages { kUsual, kHuge };
  explicit HostBuffer(std::size_t bytes, Pages pages = Pages::kUsual)
      : data_(static_cast<std::byte*>(
            std::aligned_alloc(kHugePage, (bytes + kHugePage - 1) / kHugePage * kHugePage))) {
    if (data_ == nullptr) {
      throw std::bad_alloc();
    }
    if (pages == Pages::kHuge) {
      ::madvise(data_, bytes, MADV_HUGEPAGE);
    }
    std::memset(data_, 1, bytes);
  }
  ~HostBuffer() { std::free(data_); }
  HostBuffer(const HostBuffer&) = delete;
  HostBuffer& operator=(const HostBuffer&) = delete;
  std::byte* data() const noexcept { return data_; }

 private:
  std::byte* data_;
};

enum Way : std::size_t {
  kMemcpy,
  kMemcpyHugePages,  // its destination on 2 MiB pages: the best that memcpy does here
  kPageableToDevice,
  kPageableToHost,
  kPinnedToDevice,
  kPinnedToHost,
  kWays
};
constexpr std::array<const char*, kWays> kWayNames{
    "memcpy",           "memcpy_huge_pages", "pageable_to_device",
    "pageable_to_host", "pinned_to_device",  "pinned_to_host"};

// Everything one size needs.
class Copies {
 public:
  Copies(Cuda& cuda, std::size_t bytes, const std::string& region)
      : cuda_(cuda),
        bytes_(bytes),
        source_(bytes),
        destination_(bytes),
        huge_(bytes, HostBuffer::Pages::kHuge),
        device_(bytes),
        pinned_(bytes) {
    if (!pinned_.in_region(region)) {
      throw std::runtime_error("no room for pinned memory in the region");
    }
    uint64_t word = 1;
    for (std::size_t i = 0; i < bytes; i += sizeof(word)) {
      word = word * 6364136223846793005 + 1442695040888963407;
      std::memcpy(source_.data() + i, &word, sizeof(word));
    }
    std::memcpy(pinned_.data(), source_.data(), bytes);
  }

  // All ways once, which also warms them up, and that each brings the bytes that were sent.
  void try_all() {
    copy(kMemcpyHugePages);
    copy(kMemcpy);
    const auto expect = [this](Way there, Way back, const std::byte* where) {
      check(cuMemsetD8Async(device_.address(), 0, bytes_, cuda_.stream()), "cuMemsetD8Async");
      cuda_.synchronize();
      copy(there);
      std::memset(const_cast<std::byte*>(where), 0, bytes_);
      copy(back);
      if (std::memcmp(where, source_.data(), bytes_) != 0) {
        throw std::runtime_error(std::string("other bytes came back from ") + kWayNames[there] + " and " +
                                 kWayNames[back]);
      }
    };
    expect(kPinnedToDevice, kPageableToHost, destination_.data());
    expect(kPageableToDevice, kPinnedToHost, pinned_.data());
  }

  // From the call until the bytes are where they belong.
  void copy(Way way) {
    switch (way) {
      case kMemcpy:
        std::memcpy(destination_.data(), source_.data(), bytes_);
        break;
      case kMemcpyHugePages:
        std::memcpy(huge_.data(), source_.data(), bytes_);
        break;
      case kPageableToDevice:
        check(cuMemcpyHtoD_v2(device_.address(), source_.data(), bytes_), "cuMemcpyHtoD");
        check(cuCtxSynchronize(), "cuCtxSynchronize");
        break;
      case kPageableToHost:
        check(cuMemcpyDtoH_v2(destination_.data(), device_.address(), bytes_), "cuMemcpyDtoH");
        break;
      case kPinnedToDevice:
        check(cuMemcpyHtoDAsync_v2(device_.address(), pinned_.data(), bytes_, cuda_.stream()),
              "cuMemcpyHtoDAsync");
        cuda_.synchronize();
        break;
      case kPinnedToHost:
        check(cuMemcpyDtoHAsync_v2(pinned_.data(), device_.address(), bytes_, cuda_.stream()),
              "cuMemcpyDtoHAsync");
        cuda_.synchronize();
        break;
      case kWays:
        break;
    }
    // The compiler must not find out that nobody reads what memcpy wrote.
    asm volatile("" ::"r"(destination_.data()), "r"(huge_.data()) : "memory");
  }

 private:
  Cuda& cuda_;
  std::size_t bytes_;
  HostBuffer source_;
  HostBuffer destination_;
  HostBuffer huge_;
  DeviceBuffer device_;
  PinnedBuffer pinned_;
};

// One size: what its ways gave in the round measured last.
class Size {
 public:
  Size(Setup& setup, std::size_t bytes) : setup_(setup), bytes_(bytes) {}

  void measure(Way way, Round& round) {
    if (round.quick() && bytes_ > kMostQuick) {
      round.skip("copies of this size are left out of a quick run");
      return;
    }
    if (round.number() != measured_round_) {
      measure_all(round.budget_ns());
      measured_round_ = round.number();
    }
    for (const double rate : rates_[way]) {
      round.record(rate);
    }
  }

 private:
  void measure_all(uint64_t budget_ns) {
    const Clock& clock = Clock::get();
    Cuda& cuda = setup_.cuda();
    const Pinned core(Setup::cores().first);
    Copies copies(cuda, bytes_, setup_.region());
    for (auto& rates : rates_) {
      rates.clear();
    }
    copies.try_all();
    const std::size_t together = std::clamp<std::size_t>(kTogether / bytes_, 1, kMostTogether);
    const Deadline deadline(budget_ns);
    // Each time another one comes first, so that none always finds the caches as the same other one left
    // them.
    for (unsigned turn = 0; turn < kFewest || (turn < kMost && !deadline.over()); ++turn) {
      for (std::size_t i = 0; i < kWays; ++i) {
        const auto way = static_cast<Way>(order(turn, i));
        const uint64_t start = clock.begin();
        for (std::size_t k = 0; k < together; ++k) {
          copies.copy(way);
        }
        const uint64_t end = clock.end();
        rates_[way].push_back(static_cast<double>(bytes_ * together) * 1e12 /
                              static_cast<double>(std::max<uint64_t>(clock.to_ps(end - start), 1)));
      }
    }
  }
  // Up, then down, beginning further along each time.
  static std::size_t order(unsigned turn, std::size_t i) {
    const std::size_t at = (turn / 2 + i) % kWays;
    return turn % 2 == 0 ? at : kWays - 1 - at;
  }

  Setup& setup_;
  std::size_t bytes_;
  int measured_round_ = -1;
  std::array<std::vector<double>, kWays> rates_;
};

}  // namespace

void add_copies(Suite& suite, Setup& setup) {
  for (const std::size_t bytes : kSizes) {
    const auto size = std::make_shared<Size>(setup, bytes);
    for (std::size_t way = 0; way < kWays; ++way) {
      suite.add({.name = "copy",
                 .variant = kWayNames[way],
                 .parameters = {{"bytes", static_cast<int64_t>(bytes)}},
                 .kind = Kind::kRate,
                 .unit = "B/s"},
                [size, way](Round& round) { size->measure(static_cast<Way>(way), round); });
    }
  }
}

}  // namespace vgpu::bench
