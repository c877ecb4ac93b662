// The reader of module images: containers built here, then damaged.
#include "device/software/fatbin/fatbin.h"

#include <gtest/gtest.h>
#include <lz4.h>
#include <zstd.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

namespace vgpu::software::fatbin {
namespace {

std::string ptx_for(int arch) {
  std::string text = ".version 8.4\n.target sm_" + std::to_string(arch) + "\n.address_size 64\n";
  for (int i = 0; i < 50; ++i) text += "// padding that compresses\n";
  return text;
}

struct Source {
  EntryKind kind;
  std::uint32_t arch;
  Compression compression;
  std::uint16_t major = 8;
};

class Builder {
 public:
  void add(const Source& source) {
    const std::string text = ptx_for(static_cast<int>(source.arch));
    std::string stored = text;
    if (source.compression == Compression::kLz4) {
      stored.resize(static_cast<std::size_t>(LZ4_compressBound(static_cast<int>(text.size()))));
      const int size = LZ4_compress_default(text.data(), stored.data(), static_cast<int>(text.size()),
                                            static_cast<int>(stored.size()));
      stored.resize(static_cast<std::size_t>(size));
    } else if (source.compression == Compression::kZstd) {
      stored.resize(ZSTD_compressBound(text.size()));
      stored.resize(ZSTD_compress(stored.data(), stored.size(), text.data(), text.size(), 3));
    }
    const std::size_t compressed = source.compression == Compression::kNone ? 0 : stored.size();
    while (stored.size() % 8 != 0) stored += '\0';
    put<std::uint16_t>(static_cast<std::uint16_t>(source.kind));
    put<std::uint16_t>(0x101);
    put<std::uint32_t>(64);
    put<std::uint64_t>(stored.size());
    put<std::uint32_t>(static_cast<std::uint32_t>(compressed));
    put<std::uint32_t>(0);
    put<std::uint16_t>(4);
    put<std::uint16_t>(source.major);
    put<std::uint32_t>(source.arch);
    put<std::uint32_t>(0);
    put<std::uint32_t>(0);
    put<std::uint64_t>(source.compression == Compression::kLz4    ? 0x2011
                       : source.compression == Compression::kZstd ? 0x8011
                                                                  : 0x11);
    put<std::uint64_t>(0);
    put<std::uint64_t>(source.compression == Compression::kNone ? 0 : text.size());
    body_ += stored;
  }

  std::vector<std::byte> image() {
    std::string head;
    std::swap(head, body_);
    const std::string body = head;
    put<std::uint32_t>(kMagic);
    put<std::uint16_t>(1);
    put<std::uint16_t>(16);
    put<std::uint64_t>(body.size());
    body_ += body;
    std::vector<std::byte> bytes(body_.size());
    std::memcpy(bytes.data(), body_.data(), bytes.size());
    return bytes;
  }

 private:
  template <typename T>
  void put(T value) {
    body_.append(reinterpret_cast<const char*>(&value), sizeof value);
  }
  std::string body_;
};

std::vector<std::byte> build(std::initializer_list<Source> sources) {
  Builder builder;
  for (const Source& source : sources) builder.add(source);
  return builder.image();
}

std::vector<std::byte> bytes_of(std::string_view text) {
  std::vector<std::byte> bytes(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

void patch(std::vector<std::byte>& image, std::size_t offset, std::uint64_t value, std::size_t size) {
  std::memcpy(image.data() + offset, &value, size);
}

TEST(Fatbin, HighestPtxNotAboveTheCapabilityIsChosen) {
  const auto image = build({{EntryKind::kPtx, 50, Compression::kLz4},
                            {EntryKind::kPtx, 61, Compression::kZstd},
                            {EntryKind::kElf, 61, Compression::kNone},
                            {EntryKind::kPtx, 70, Compression::kNone}});
  for (const auto& [capability, arch] :
       {std::pair{50U, 50U}, {60U, 50U}, {61U, 61U}, {69U, 61U}, {90U, 70U}}) {
    const auto chosen = choose_ptx(image, capability);
    ASSERT_TRUE(chosen) << chosen.error().message;
    EXPECT_EQ(chosen->arch, arch);
    EXPECT_EQ(chosen->text, ptx_for(static_cast<int>(arch)));
  }
}

TEST(Fatbin, NothingForTheCapabilityNamesWhatIsThere) {
  const auto image =
      build({{EntryKind::kPtx, 75, Compression::kZstd}, {EntryKind::kElf, 61, Compression::kNone}});
  const auto chosen = choose_ptx(image, 61);
  ASSERT_FALSE(chosen);
  EXPECT_EQ(chosen.error().kind, ErrorKind::kNoBinaryForGpu);
  EXPECT_EQ(chosen.error().message, "no PTX for capability 6.1; the image has PTX for sm_75, code for sm_61");
}

TEST(Fatbin, EntriesKeepTheirFields) {
  const auto image =
      build({{EntryKind::kPtx, 61, Compression::kLz4}, {EntryKind::kElf, 75, Compression::kNone}});
  const auto entries = list_entries(image);
  ASSERT_TRUE(entries);
  ASSERT_EQ(entries->size(), 2U);
  EXPECT_EQ((*entries)[0].arch, 61U);
  EXPECT_EQ((*entries)[0].ptx_major, 8U);
  EXPECT_EQ((*entries)[0].ptx_minor, 4U);
  EXPECT_EQ((*entries)[0].compression, Compression::kLz4);
  EXPECT_EQ((*entries)[0].uncompressed_size, ptx_for(61).size());
  EXPECT_EQ((*entries)[1].kind, EntryKind::kElf);
}

TEST(Fatbin, NewerPtxVersionIsToldApart) {
  const auto image = build({{EntryKind::kPtx, 61, Compression::kNone, 10}});
  const auto chosen = choose_ptx(image, 61);
  ASSERT_FALSE(chosen);
  EXPECT_EQ(chosen.error().kind, ErrorKind::kUnsupportedPtxVersion);
}

TEST(Fatbin, PlainTextIsRecognisedBehindComments) {
  const auto chosen = choose_ptx(bytes_of("//\n// by hand\n/* x */ .version 8.4\n.target sm_61\n"), 61);
  ASSERT_TRUE(chosen) << chosen.error().message;
  EXPECT_EQ(chosen->arch, 61U);
  EXPECT_EQ(choose_ptx(bytes_of(".version 8.4\n.target sm_75\n"), 61).error().kind, ErrorKind::kInvalidPtx);
  EXPECT_EQ(choose_ptx(bytes_of(".version 8.4\n"), 61).error().kind, ErrorKind::kInvalidPtx);
}

TEST(Fatbin, CubinHasNoPtxAndAnotherElfIsNoImage) {
  std::string elf(
      "\x7f"
      "ELF",
      4);
  elf.resize(64, '\0');
  elf[18] = static_cast<char>(190);
  EXPECT_EQ(choose_ptx(bytes_of(elf), 61).error().kind, ErrorKind::kNoBinaryForGpu);
  elf[18] = 62;
  EXPECT_EQ(choose_ptx(bytes_of(elf), 61).error().kind, ErrorKind::kInvalidImage);
  EXPECT_EQ(choose_ptx(bytes_of("\x7f"
                                "ELF"),
                       61)
                .error()
                .kind,
            ErrorKind::kInvalidImage);
}

TEST(Fatbin, NonsenseIsAnInvalidImage) {
  EXPECT_EQ(choose_ptx({}, 61).error().kind, ErrorKind::kInvalidImage);
  EXPECT_EQ(choose_ptx(bytes_of("hello"), 61).error().kind, ErrorKind::kInvalidImage);
  EXPECT_EQ(choose_ptx(bytes_of("\x50\xed\x55\xba"), 61).error().kind, ErrorKind::kInvalidImage);
  EXPECT_EQ(choose_ptx(bytes_of("/* no end"), 61).error().kind, ErrorKind::kInvalidImage);
}

TEST(Fatbin, EveryTruncationIsRefused) {
  const auto image =
      build({{EntryKind::kPtx, 50, Compression::kLz4}, {EntryKind::kPtx, 61, Compression::kZstd}});
  for (std::size_t size = 0; size < image.size(); ++size) {
    const auto chosen = choose_ptx(std::span(image).first(size), 61);
    ASSERT_FALSE(chosen) << "of " << size << " bytes";
    EXPECT_EQ(chosen.error().kind, ErrorKind::kInvalidImage);
  }
}

TEST(Fatbin, SizesThatLieAreRefused) {
  struct Lie {
    const char* what;
    std::size_t offset;
    std::uint64_t value;
    std::size_t size;
  };
  const Lie lies[] = {
      {"header below its minimum", 6, 8, 2},
      {"body beyond the image", 8, 1 << 20, 8},
      {"body that wraps around", 8, ~std::uint64_t{0}, 8},
      {"unknown version", 4, 2, 2},
      {"entry header below its minimum", 16 + 4, 32, 4},
      {"entry header beyond the image", 16 + 4, 0xFFFFFFFF, 4},
      {"entry beyond the image", 16 + 8, 1 << 30, 8},
      {"entry that wraps around", 16 + 8, ~std::uint64_t{0} - 32, 8},
      {"compressed size above the stored size", 16 + 16, 0xFFFFFFFF, 4},
      {"name outside the header", 16 + 36, 1000, 4},
      {"decompressed size out of bounds", 16 + 56, std::uint64_t{1} << 40, 8},
      {"decompressed size beyond what LZ4 can reach", 16 + 56, 1 << 20, 8},
      {"decompressed size too small", 16 + 56, 16, 8},
  };
  for (const Lie& lie : lies) {
    auto image = build({{EntryKind::kPtx, 61, Compression::kLz4}});
    patch(image, lie.offset, lie.value, lie.size);
    const auto chosen = choose_ptx(image, 61);
    ASSERT_FALSE(chosen) << lie.what;
    EXPECT_EQ(chosen.error().kind, ErrorKind::kInvalidImage) << lie.what << ": " << chosen.error().message;
  }
}

TEST(Fatbin, DamagedCompressedDataIsRefused) {
  for (const Compression compression : {Compression::kLz4, Compression::kZstd}) {
    auto image = build({{EntryKind::kPtx, 61, compression}});
    for (std::size_t i = 16 + 64; i < image.size(); ++i) image[i] = std::byte{0xFF};
    const auto chosen = choose_ptx(image, 61);
    ASSERT_FALSE(chosen);
    EXPECT_EQ(chosen.error().kind, ErrorKind::kInvalidImage);
  }
}

// The fuzzer in tests/fuzz goes deeper; this runs everywhere, under the sanitizers too.
TEST(Fatbin, DamagedImagesAreReadWithinTheirBoundsOrRefused) {
  const std::vector<std::byte> originals[] = {
      build({{EntryKind::kPtx, 50, Compression::kNone}, {EntryKind::kPtx, 61, Compression::kLz4}}),
      build({{EntryKind::kPtx, 61, Compression::kZstd}, {EntryKind::kElf, 61, Compression::kNone}}),
      build({{EntryKind::kElf, 61, Compression::kLz4}, {EntryKind::kPtx, 52, Compression::kLz4}}),
  };
  const std::uint64_t edges[] = {0,
                                 1,
                                 7,
                                 8,
                                 63,
                                 64,
                                 65,
                                 0x7F,
                                 0xFF,
                                 0xFFFF,
                                 0x7FFFFFFF,
                                 0xFFFFFFFF,
                                 ~std::uint64_t{0},
                                 std::uint64_t{1} << 63,
                                 std::uint64_t{1} << 32};
  std::mt19937_64 random(2026);
  std::size_t chosen_count = 0;
  std::size_t refused = 0;
  for (int round = 0; round < 30000; ++round) {
    std::vector<std::byte> image = originals[random() % 3];
    for (std::uint64_t edits = 1 + random() % 3; edits > 0; --edits) {
      const std::size_t at = random() % image.size();
      const std::size_t size = std::size_t{1} << random() % 4;
      switch (random() % 5) {
        case 0:
          image[at] ^= static_cast<std::byte>(1U << random() % 8);
          break;
        case 1:  // a field of a header
          patch(image, (random() % 2 == 0 ? 0 : 16) + random() % 10 * 8 + random() % 2 * 4,
                edges[random() % std::size(edges)], std::min<std::size_t>(size, 4));
          break;
        case 2:
          if (at + size <= image.size()) patch(image, at, edges[random() % std::size(edges)], size);
          break;
        case 3:
          image.resize(at + 1);
          break;
        default:
          image.insert(image.begin() + static_cast<std::ptrdiff_t>(at), random() % 40,
                       static_cast<std::byte>(random()));
          break;
      }
      if (image.size() < 128) break;
    }
    // In memory of its own size, so that the address sanitizer sees a read beyond it.
    const std::vector<std::byte> exact(image.begin(), image.end());
    const auto chosen = choose_ptx(exact, 61);
    if (chosen) {
      ++chosen_count;
      EXPECT_LE(chosen->arch, 61U);
      EXPECT_LE(chosen->text.size(), kMaxTextBytes);
    } else {
      ++refused;
      EXPECT_FALSE(chosen.error().message.empty());
    }
    const auto entries = list_entries(exact);
    if (!entries) continue;
    for (const auto& entry : *entries) {
      ASSERT_GE(entry.payload.data(), exact.data());
      ASSERT_LE(entry.payload.data() + entry.payload.size(), exact.data() + exact.size());
    }
  }
  EXPECT_GT(chosen_count, 1000U);
  EXPECT_GT(refused, 1000U);
}

}  // namespace
}  // namespace vgpu::software::fatbin
