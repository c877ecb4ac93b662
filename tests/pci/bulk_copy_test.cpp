// The copy loops of every kind of mapping, over ordinary memory: what arrives, what stays untouched around
// it, at every alignment of both sides.
#include "pci/bulk_copy.h"

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

namespace vgpu::pci::test {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::byte kUntouched{0xa5};

// Pages of their own, so that the loops may read the whole lines that a copy begins and ends in.
class Pages {
 public:
  explicit Pages(std::size_t bytes) : bytes_(bytes) {
    void* got = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    data_ = got == MAP_FAILED ? nullptr : static_cast<std::byte*>(got);
  }
  ~Pages() { ::munmap(data_, bytes_); }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  std::byte* data() const { return data_; }
  std::size_t size() const { return bytes_; }

  void fill_with_pattern() {
    uint32_t state = 12345;
    for (std::size_t i = 0; i < bytes_; ++i) {
      state = state * 1664525 + 1013904223;
      data_[i] = static_cast<std::byte>(state >> 24);
    }
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_;
};

using Loop = void (*)(std::byte*, const std::byte*, std::size_t);

struct NamedLoop {
  std::string name;
  Loop loop;
};

std::vector<NamedLoop> all_loops() {
  std::vector<NamedLoop> loops;
  for (const auto kind : {MappingKind::kWriteBack, MappingKind::kWriteCombining, MappingKind::kUncached}) {
    const BulkCopy& copy = bulk_copy_for(kind);
    loops.push_back({std::string("store to ") + mapping_kind_name(kind), copy.store});
    loops.push_back({std::string("load from ") + mapping_kind_name(kind), copy.load});
  }
  loops.push_back({"copy past caches", copy_past_caches});
  return loops;
}

// Copies `bytes` and checks destination and both its surroundings. False once something is wrong.
bool copies_exactly(Loop loop, std::byte* to, const std::byte* from, std::size_t bytes) {
  const std::size_t before = kLine;
  const std::size_t window = before + bytes + kLine;
  std::memset(to - before, static_cast<int>(kUntouched), window);
  loop(to, from, bytes);
  const auto untouched = [](std::byte b) { return b == kUntouched; };
  return (bytes == 0 || std::memcmp(to, from, bytes) == 0) && std::all_of(to - before, to, untouched) &&
         std::all_of(to + bytes, to + bytes + kLine, untouched);
}

class BulkCopyLoops : public ::testing::TestWithParam<NamedLoop> {};

TEST_P(BulkCopyLoops, CopyAtEveryAlignmentOfBothSides) {
  Pages source(16384);
  const Pages target(16384);
  source.fill_with_pattern();
  for (std::size_t from = 0; from < kLine; ++from) {
    for (std::size_t to = 0; to < kLine; ++to) {
      // All sizes up to two lines and a bit; of the larger ones each pair takes its share, 64 pairs take all.
      const auto next = [&](std::size_t n) { return n < 3 * kLine ? n + 1 : n + kLine; };
      for (std::size_t n = 0; n <= 4096; n = n == 3 * kLine ? n + 1 + (from + to) % kLine : next(n)) {
        ASSERT_TRUE(
            copies_exactly(GetParam().loop, target.data() + 4096 + to, source.data() + 4096 + from, n))
            << n << " bytes from " << from << " to " << to << " of a line";
      }
    }
  }
}

TEST_P(BulkCopyLoops, CopyEverySizeUpToAPage) {
  Pages source(16384);
  const Pages target(16384);
  source.fill_with_pattern();
  for (std::size_t n = 0; n <= 4096; ++n) {
    for (const std::size_t to : {std::size_t{0}, std::size_t{1}, std::size_t{8}, std::size_t{63}}) {
      ASSERT_TRUE(copies_exactly(GetParam().loop, target.data() + 4096 + to, source.data() + 4096 + 5, n))
          << n << " bytes to " << to << " of a line";
    }
  }
}

TEST_P(BulkCopyLoops, CopyLargeOddSizes) {
  constexpr std::size_t kLarge = (5u << 20) + 4096 * 3;
  Pages source(kLarge);
  const Pages target(kLarge);
  source.fill_with_pattern();
  for (const std::size_t n :
       {std::size_t{65537}, std::size_t{262143}, std::size_t{1048583}, std::size_t{5242879}}) {
    for (const std::size_t skew : {std::size_t{0}, std::size_t{1}, std::size_t{31}, std::size_t{40}}) {
      ASSERT_TRUE(copies_exactly(GetParam().loop, target.data() + 4096 + skew, source.data() + 4096 + 17, n))
          << n << " bytes to " << skew << " of a line";
    }
  }
}

INSTANTIATE_TEST_SUITE_P(AllKinds, BulkCopyLoops, ::testing::ValuesIn(all_loops()), [](const auto& chosen) {
  std::string name = chosen.param.name;
  std::replace_if(name.begin(), name.end(), [](char c) { return c == ' ' || c == '-'; }, '_');
  return name;
});

// The processor takes the widest; the others must be right too where it has them.
TEST(BulkCopyLines, CopyAtEveryWidthOfMoves) {
  Pages source(16384);
  const Pages target(16384);
  source.fill_with_pattern();
  ASSERT_FALSE(line_copies().empty());
  for (const LineCopy& copy : line_copies()) {
    for (std::size_t lines = 0; lines <= 33; ++lines) {
      for (std::size_t skew = 0; skew < kLine; ++skew) {
        const auto store = [&](std::byte* to, const std::byte* from, std::size_t n) {
          copy.store(to, from, n / kLine);
        };
        const auto load = [&](std::byte* to, const std::byte* from, std::size_t n) {
          copy.load(to, from, n / kLine);
        };
        const auto check = [&](auto loop, std::size_t to, std::size_t from) {
          std::memset(target.data(), static_cast<int>(kUntouched), target.size());
          loop(target.data() + 4096 + to, source.data() + 4096 + from, lines * kLine);
          return std::memcmp(target.data() + 4096 + to, source.data() + 4096 + from, lines * kLine) == 0 &&
                 target.data()[4096 + to - 1] == kUntouched &&
                 target.data()[4096 + to + lines * kLine] == kUntouched;
        };
        ASSERT_TRUE(check(store, 0, skew)) << lines << " lines from " << skew << " of a line";
        ASSERT_TRUE(check(load, skew, 0)) << lines << " lines to " << skew << " of a line";
      }
    }
  }
}

TEST(MappingKinds, HaveNamesThatAreFoundAgain) {
  for (const auto kind : {MappingKind::kWriteBack, MappingKind::kWriteCombining, MappingKind::kUncached}) {
    EXPECT_EQ(mapping_kind_of_name(mapping_kind_name(kind)), kind);
  }
  EXPECT_EQ(mapping_kind_of_name("cached"), std::nullopt);
  EXPECT_EQ(mapping_kind_of_name(""), std::nullopt);
}

}  // namespace
}  // namespace vgpu::pci::test
