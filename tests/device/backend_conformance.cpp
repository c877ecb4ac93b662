// See backend_conformance.h. Memory and modules; launches and BLAS are in files of their own.
#include "tests/device/backend_conformance.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "tests/device/conformance_kernels.h"

namespace vgpu::device {

void BackendConformance::SetUp() {
  auto backend = GetParam().make();
  ASSERT_TRUE(backend) << backend.error().reason;
  backend_ = std::move(*backend);
}

void BackendConformance::TearDown() {
  backend_.reset();
}

std::unique_ptr<Context> BackendConformance::make_context() {
  auto context = backend_->create_context(Quota{});
  EXPECT_TRUE(context);
  return context ? std::move(*context) : nullptr;
}

Result<void> BackendConformance::put(Context& context, uint64_t address, std::span<const std::byte> data) {
  return context.copy_to_device(address, 0, data, 0, {.width = data.size(), .height = 1});
}

Result<std::vector<std::byte>> BackendConformance::get(Context& context, uint64_t address, uint64_t bytes) {
  std::vector<std::byte> data(bytes);
  const auto copied = context.copy_from_device(data, 0, address, 0, {.width = bytes, .height = 1});
  if (!copied) return std::unexpected(copied.error());
  return data;
}

void BackendConformance::load_kernels(Context& context) {
  const auto text = std::as_bytes(std::span(kConformanceKernels, std::strlen(kConformanceKernels)));
  const auto loaded = context.load_module(1, {text.begin(), text.end()});
  ASSERT_TRUE(loaded) << loaded.error().reason;
}

void BackendConformance::get_kernel(Context& context, uint32_t function, std::string_view name) {
  const auto found = context.get_function(1, function, name);
  ASSERT_TRUE(found) << found.error().reason;
}

uint64_t BackendConformance::must_allocate(Context& context, uint64_t bytes) {
  const auto address = context.allocate(bytes);
  EXPECT_TRUE(address) << address.error().reason;
  return address.value_or(0);
}

protocol::LaunchRequest launch_of(uint32_t function, uint32_t blocks, uint16_t threads,
                                  uint32_t shared_bytes) {
  return {.function = function,
          .grid_x = blocks,
          .grid_y = 1,
          .grid_z = 1,
          .block_x = threads,
          .block_y = 1,
          .block_z = 1,
          .flags = 0,
          .shared_bytes = shared_bytes};
}

namespace {

constexpr uint64_t kMebi = uint64_t{1} << 20;

std::vector<uint32_t> counting(std::size_t count, uint32_t first = 0) {
  std::vector<uint32_t> values(count);
  std::iota(values.begin(), values.end(), first);
  return values;
}

// ---- memory ----

TEST_P(BackendConformance, AllocationsAreAlignedDisjointAndInTheWindow) {
  const auto context = make_context();
  const auto& properties = backend_->properties();
  std::vector<std::pair<uint64_t, uint64_t>> blocks;
  for (const uint64_t bytes :
       {1ull, 255ull, 256ull, 257ull, 4096ull, 65537ull, 1ull << 20, (1ull << 20) + 1, 3ull << 20}) {
    const uint64_t address = must_allocate(*context, bytes);
    EXPECT_EQ(address % 256, 0u);
    EXPECT_GE(address, properties.window_base);
    EXPECT_LE(address + bytes, properties.window_base + properties.window_bytes);
    for (const auto& [other, other_bytes] : blocks) {
      EXPECT_TRUE(address + bytes <= other || other + other_bytes <= address);
    }
    blocks.emplace_back(address, bytes);
  }
}

TEST_P(BackendConformance, FreeOfNullDoesNothingAndOfForeignPointersFails) {
  const auto context = make_context();
  const auto other = make_context();
  ASSERT_DONE(context->free(0));
  const uint64_t address = must_allocate(*context, 1000);
  EXPECT_STATUS(context->free(address + 256), kInvalidValue);
  EXPECT_STATUS(other->free(address), kInvalidValue);
  ASSERT_DONE(context->free(address));
  EXPECT_STATUS(context->free(address), kInvalidValue);
}

TEST_P(BackendConformance, MemoryComesBackWhenFreedAndWhenTheContextEnds) {
  const auto watcher = make_context();
  const auto free_bytes = [&] { return watcher->memory_info()->free_bytes; };
  const uint64_t before = free_bytes();
  auto context = make_context();
  const uint64_t large = must_allocate(*context, 8 * kMebi);
  EXPECT_LE(free_bytes(), before - 8 * kMebi);
  EXPECT_GE(context->memory_in_use(), 8 * kMebi);
  ASSERT_DONE(context->free(large));
  EXPECT_EQ(free_bytes(), before);
  for (int i = 0; i < 100; ++i) must_allocate(*context, 10'000);
  must_allocate(*context, 4 * kMebi);
  EXPECT_LT(free_bytes(), before);
  context.reset();
  EXPECT_EQ(free_bytes(), before);
}

TEST_P(BackendConformance, TooMuchMemoryIsRefusedAndTheRestStaysUsable) {
  const auto context = make_context();
  const uint64_t total = context->memory_info()->total_bytes;
  EXPECT_STATUS(context->allocate(total + 1), kOutOfMemory);
  EXPECT_STATUS(context->allocate(std::numeric_limits<uint64_t>::max()), kOutOfMemory);
  const uint64_t address = must_allocate(*context, 4096);
  store(*context, address, counting(1024));
  EXPECT_EQ(load<uint32_t>(*context, address, 1024), counting(1024));
}

TEST_P(BackendConformance, QuotaBoundsOneContextAlone) {
  auto limited = backend_->create_context(Quota{.memory_bytes = 8 * kMebi});
  ASSERT_TRUE(limited);
  const auto free_one = make_context();
  EXPECT_STATUS((*limited)->allocate(9 * kMebi), kOutOfMemory);
  EXPECT_EQ((*limited)->memory_info()->total_bytes, 8 * kMebi);
  must_allocate(**limited, 4 * kMebi);
  must_allocate(*free_one, 16 * kMebi);
}

TEST_P(BackendConformance, AllocationsCanBeFilledUntilNothingIsLeftAndReusedInAnyOrder) {
  const auto context = make_context();
  std::mt19937 random(7);
  std::vector<uint64_t> blocks;
  const uint64_t before = context->memory_info()->free_bytes;
  for (int round = 0; round < 2000; ++round) {
    if (blocks.size() > 200 || (!blocks.empty() && random() % 3 == 0)) {
      const std::size_t victim = random() % blocks.size();
      ASSERT_DONE(context->free(blocks[victim]));
      blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(victim));
    } else {
      blocks.push_back(must_allocate(*context, 1 + random() % 100'000));
    }
  }
  for (const uint64_t block : blocks) ASSERT_DONE(context->free(block));
  EXPECT_EQ(context->memory_info()->free_bytes, before);
}

// ---- copies and memsets ----

TEST_P(BackendConformance, CopiesKeepEveryByte) {
  const auto context = make_context();
  const uint64_t a = must_allocate(*context, 4 * kMebi);
  const uint64_t b = must_allocate(*context, 4 * kMebi);
  const auto values = counting(kMebi, 17);
  store(*context, a, values);
  ASSERT_DONE(context->copy_on_device(b, 0, a, 0, {.width = 4 * kMebi, .height = 1}));
  EXPECT_EQ(load<uint32_t>(*context, b, kMebi), values);
}

TEST_P(BackendConformance, RowsAreCopiedWithTheirPitches) {
  const auto context = make_context();
  const uint64_t device = must_allocate(*context, 10 * 64);
  ASSERT_DONE(context->memset(
      {.destination = device, .width = 640, .height = 1, .pitch = 0, .value = 0xee, .element_bytes = 1}));
  std::vector<uint8_t> host(5 * 20);
  std::iota(host.begin(), host.end(), uint8_t{0});
  ASSERT_DONE(
      context->copy_to_device(device, 64, std::as_bytes(std::span(host)), 20, {.width = 12, .height = 5}));
  const auto bytes = load<uint8_t>(*context, device, 640);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    const std::size_t row = i / 64;
    const std::size_t column = i % 64;
    EXPECT_EQ(bytes[i], row < 5 && column < 12 ? row * 20 + column : 0xee) << "byte " << i;
  }
  std::vector<uint8_t> back(5 * 16, 0xaa);
  ASSERT_DONE(context->copy_from_device(std::as_writable_bytes(std::span(back)), 16, device, 64,
                                        {.width = 12, .height = 5}));
  for (std::size_t i = 0; i < back.size(); ++i) {
    EXPECT_EQ(back[i], i % 16 < 12 ? i / 16 * 20 + i % 16 : 0xaa) << "byte " << i;
  }
  const uint64_t packed = must_allocate(*context, 60);
  ASSERT_DONE(context->copy_on_device(packed, 12, device, 64, {.width = 12, .height = 5}));
  EXPECT_EQ(load<uint8_t>(*context, packed, 60)[59], 4 * 20 + 11);
}

TEST_P(BackendConformance, ACopyOutsideAllocationsIsRefusedWhole) {
  const auto context = make_context();
  const auto other = make_context();
  const uint64_t address = must_allocate(*context, 4096);
  const uint64_t foreign = must_allocate(*other, 4096);
  store(*context, address, counting(1024));
  const std::vector<std::byte> data(8192);
  EXPECT_STATUS(put(*context, address, data), kInvalidValue);
  EXPECT_STATUS(put(*context, foreign, std::span(data).first(16)), kInvalidValue);
  EXPECT_STATUS(get(*context, foreign, 16), kInvalidValue);
  EXPECT_STATUS(get(*context, 0, 16), kInvalidValue);
  EXPECT_STATUS(get(*context, backend_->properties().window_base, 16), kInvalidValue);
  EXPECT_STATUS(get(*context, backend_->properties().window_base + backend_->properties().window_bytes, 16),
                kInvalidValue);
  EXPECT_STATUS(context->copy_on_device(address, 0, foreign, 0, {.width = 16, .height = 1}), kInvalidValue);
  EXPECT_STATUS(context->copy_to_device(address, 4096, data, 16, {.width = 16, .height = 3}), kInvalidValue);
  EXPECT_STATUS(context->copy_to_device(address, ~uint64_t{0}, data, 16, {.width = 16, .height = 3}),
                kInvalidValue);
  EXPECT_EQ(load<uint32_t>(*context, address, 1024), counting(1024));
  ASSERT_DONE(context->copy_to_device(1, 0, {}, 0, {.width = 0, .height = 1}));
}

TEST_P(BackendConformance, MemsetFillsElementsOfEverySizeAndRows) {
  const auto context = make_context();
  const uint64_t address = must_allocate(*context, 4096);
  const auto set = [&](uint64_t at, uint64_t width, uint64_t height, uint64_t pitch, uint32_t value,
                       uint32_t size) {
    return context->memset({.destination = at,
                            .width = width,
                            .height = height,
                            .pitch = pitch,
                            .value = value,
                            .element_bytes = size});
  };
  ASSERT_DONE(set(address, 4096, 1, 0, 0x1ff, 1));
  ASSERT_DONE(set(address + 16, 4, 1, 0, 0x12345, 2));
  ASSERT_DONE(set(address + 32, 2, 3, 256, 0xdeadbeef, 4));
  const auto bytes = load<uint8_t>(*context, address, 4096);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    uint8_t expected = 0xff;
    if (i >= 16 && i < 24) expected = i % 2 == 0 ? 0x45 : 0x23;
    if (i % 256 >= 32 && i % 256 < 40 && i < 3 * 256)
      expected = static_cast<uint8_t>(0xdeadbeef >> (i % 4 * 8));
    ASSERT_EQ(bytes[i], expected) << "byte " << i;
  }
  EXPECT_STATUS(set(address + 1, 4, 1, 0, 0, 2), kInvalidValue);
  EXPECT_STATUS(set(address, 4097, 1, 0, 0, 1), kInvalidValue);
  EXPECT_STATUS(set(address, 4, 2, 4096, 0, 4), kInvalidValue);
}

TEST_P(BackendConformance, ValuesAreWritten) {
  const auto context = make_context();
  const uint64_t address = must_allocate(*context, 64);
  ASSERT_DONE(context->memset(
      {.destination = address, .width = 64, .height = 1, .pitch = 0, .value = 0, .element_bytes = 1}));
  ASSERT_DONE(context->write_value({.address = address, .value = 0x1'2345'6789, .bytes = 4, .reserved = 0}));
  ASSERT_DONE(
      context->write_value({.address = address + 8, .value = 0x1'2345'6789, .bytes = 8, .reserved = 0}));
  EXPECT_EQ(load<uint64_t>(*context, address, 2), (std::vector<uint64_t>{0x2345'6789, 0x1'2345'6789}));
  EXPECT_STATUS(context->write_value({.address = address + 64, .value = 0, .bytes = 4, .reserved = 0}),
                kInvalidValue);
}

TEST_P(BackendConformance, BulkMemoryIsSeenAtItsDeviceAddress) {
  const auto context = make_context();
  const int file = ::memfd_create("conformance", MFD_CLOEXEC);
  ASSERT_GE(file, 0);
  ASSERT_EQ(::ftruncate(file, 3 * 4096), 0);
  auto* memory =
      static_cast<std::byte*>(::mmap(nullptr, 2 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 4096));
  ASSERT_NE(memory, MAP_FAILED);
  const auto address = context->map_bulk({memory, 2 * 4096}, file, 4096);
  ASSERT_TRUE(address) << address.error().reason;
  memory[5000] = std::byte{42};
  EXPECT_EQ(load<uint8_t>(*context, *address + 5000, 1)[0], 42);
  const uint64_t device = must_allocate(*context, 16);
  ASSERT_DONE(context->copy_on_device(*address + 100, 0, *address + 5000, 0, {.width = 1, .height = 1}));
  EXPECT_EQ(memory[100], std::byte{42});
  ASSERT_DONE(context->copy_on_device(device, 0, *address + 5000, 0, {.width = 1, .height = 1}));
  EXPECT_EQ(load<uint8_t>(*context, device, 1)[0], 42);
  EXPECT_STATUS(context->free(*address), kInvalidValue);
  ::munmap(memory, 2 * 4096);
  ::close(file);
}

// ---- virtual memory management ----

TEST_P(BackendConformance, PhysicalMemoryIsMappedSharedAndUnmapped) {
  const auto context = make_context();
  const uint64_t unit = 2 * kMebi;
  const uint64_t before = context->memory_info()->free_bytes;
  const auto base = context->reserve_address(8 * unit, 0, 0);
  ASSERT_TRUE(base) << base.error().reason;
  EXPECT_EQ(context->memory_info()->free_bytes, before) << "addresses are not memory";
  ASSERT_DONE(context->create_physical(1, unit));
  ASSERT_DONE(context->create_physical(2, unit));
  EXPECT_EQ(context->memory_info()->free_bytes, before - 2 * unit);
  const auto map = [&](uint64_t at, uint32_t physical) {
    return context->map({.address = at, .bytes = unit, .offset = 0, .physical = physical, .reserved = 0});
  };
  const auto access = [&](uint64_t at, uint64_t bytes, uint32_t flags) {
    return context->set_access({.address = at, .bytes = bytes, .access = flags, .reserved = 0});
  };
  ASSERT_DONE(map(*base, 1));
  ASSERT_DONE(map(*base + unit, 2));
  ASSERT_DONE(map(*base + 4 * unit, 1));
  EXPECT_STATUS(map(*base, 2), kInvalidValue);
  EXPECT_STATUS(get(*context, *base, 4), kInvalidValue);  // no access yet
  ASSERT_DONE(access(*base, 2 * unit, 3));
  ASSERT_DONE(access(*base + 4 * unit, unit, 1));
  // A copy may span mappings that touch.
  const auto values = counting(1024, 99);
  store(*context, *base + unit - 2048, values);
  EXPECT_EQ(load<uint32_t>(*context, *base + unit - 2048, 1024), values);
  // The same physical memory at another address, read-only.
  EXPECT_EQ(load<uint32_t>(*context, *base + 5 * unit - 2048, 512), counting(512, 99));
  EXPECT_STATUS(put(*context, *base + 4 * unit, std::as_bytes(std::span(values))), kInvalidValue);
  EXPECT_STATUS(get(*context, *base + 2 * unit - 2, 4), kInvalidValue);

  // Released memory lives on while it is mapped.
  ASSERT_DONE(context->release_physical(1));
  EXPECT_EQ(load<uint32_t>(*context, *base + unit - 2048, 1)[0], 99u);
  EXPECT_STATUS(context->release_physical(1), kInvalidValue);
  EXPECT_STATUS(context->free_address(*base, 8 * unit), kInvalidValue);
  EXPECT_STATUS(context->unmap(*base, unit / 2), kInvalidValue);
  ASSERT_DONE(context->unmap(*base, 2 * unit));
  EXPECT_STATUS(get(*context, *base, 4), kInvalidValue);
  EXPECT_EQ(context->memory_info()->free_bytes, before - 2 * unit);
  ASSERT_DONE(context->unmap(*base + 4 * unit, unit));
  EXPECT_EQ(context->memory_info()->free_bytes, before - unit);
  ASSERT_DONE(context->release_physical(2));
  EXPECT_EQ(context->memory_info()->free_bytes, before);
  EXPECT_STATUS(context->free_address(*base, unit), kInvalidValue);
  ASSERT_DONE(context->free_address(*base, 8 * unit));
}

TEST_P(BackendConformance, VirtualMemoryRulesAreKept) {
  const auto context = make_context();
  const auto other = make_context();
  const uint64_t unit = 2 * kMebi;
  EXPECT_STATUS(context->reserve_address(4096, 0, 0), kInvalidValue);
  EXPECT_STATUS(context->reserve_address(unit, 3, 0), kInvalidValue);
  EXPECT_STATUS(context->create_physical(1, 4096), kInvalidValue);
  EXPECT_STATUS(context->create_physical(1, uint64_t{1} << 50), kOutOfMemory);
  const auto aligned = context->reserve_address(unit, uint64_t{1} << 30, 0);
  ASSERT_TRUE(aligned);
  EXPECT_EQ(*aligned % (uint64_t{1} << 30), 0u);
  const auto large = context->reserve_address(uint64_t{32} << 30, 0, 0);
  ASSERT_TRUE(large) << large.error().reason;
  ASSERT_DONE(context->create_physical(1, unit));
  EXPECT_STATUS(context->create_physical(1, unit), kInvalidValue);
  const auto map = [&](Context& who, uint64_t at, uint64_t bytes, uint64_t offset, uint32_t physical) {
    return who.map({.address = at, .bytes = bytes, .offset = offset, .physical = physical, .reserved = 0});
  };
  EXPECT_STATUS(map(*context, *aligned, 2 * unit, 0, 1), kInvalidValue);
  EXPECT_STATUS(map(*context, *aligned, unit, unit, 1), kInvalidValue);
  EXPECT_STATUS(map(*context, *aligned + 4096, unit, 0, 1), kInvalidValue);
  EXPECT_STATUS(map(*context, *aligned, unit, 0, 2), kInvalidValue);
  EXPECT_STATUS(map(*other, *aligned, unit, 0, 1), kInvalidValue);
  EXPECT_STATUS(context->set_access({.address = *aligned, .bytes = unit, .access = 3, .reserved = 0}),
                kInvalidValue);
}

// ---- modules ----

std::vector<std::byte> image_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text.data(), text.size()));
  return {bytes.begin(), bytes.end()};
}

TEST_P(BackendConformance, BadImagesAreRefusedWithTheReason) {
  const auto context = make_context();
  EXPECT_STATUS(context->load_module(1, {}), kInvalidImage);
  EXPECT_STATUS(context->load_module(1, image_of("certainly no module")), kInvalidImage);
  const auto missing = context->get_function(1, 1, "f");
  EXPECT_STATUS(missing, kInvalidHandle);
  const std::string head = ".version 6.4\n.target sm_50\n.address_size 64\n";
  const auto broken = context->load_module(1, image_of(head + ".visible .entry f( {\n"));
  EXPECT_STATUS(broken, kInvalidPtx);
  EXPECT_NE(broken.error().reason.find(":4"), std::string::npos) << broken.error().reason;
}

TEST_P(BackendConformance, ABadInstructionIsNamedWithItsLine) {
  const auto context = make_context();
  const auto loaded =
      context->load_module(1, image_of(".version 6.4\n.target sm_50\n.address_size 64\n.visible .entry "
                                       "f()\n{\n  frobnicate.u32 1;\n  ret;\n}\n"));
  ASSERT_TRUE(loaded) << loaded.error().reason;
  const auto found = context->get_function(1, 1, "f");
  EXPECT_STATUS(found, kInvalidPtx);
  EXPECT_NE(found.error().reason.find(":6"), std::string::npos) << found.error().reason;
  EXPECT_NE(found.error().reason.find("frobnicate"), std::string::npos) << found.error().reason;
}

TEST_P(BackendConformance, AModuleTellsItsKernelsAndVariables) {
  const auto context = make_context();
  load_kernels(*context);
  EXPECT_STATUS(context->load_module(1, image_of(kConformanceKernels)), kInvalidValue);
  EXPECT_EQ(*context->function_name(1, 0), "add_one");
  EXPECT_EQ(*context->function_name(1, 1), "block_sum");
  EXPECT_STATUS(context->function_name(1, 1000), kInvalidValue);
  const auto info = context->get_function(1, 1, "add_one");
  ASSERT_TRUE(info);
  EXPECT_EQ(info->attributes.parameter_count, 2u);
  EXPECT_EQ(info->attributes.parameter_bytes, 12u);
  EXPECT_EQ(info->attributes.max_threads_per_block, 1024u);
  ASSERT_EQ(info->parameters.size(), 2u);
  EXPECT_EQ(info->parameters[1].offset, 8);
  EXPECT_EQ(info->parameters[1].bytes, 4);
  EXPECT_EQ(context->get_function(1, 2, "block_sum")->attributes.static_shared_bytes, 4096u);
  EXPECT_EQ(context->get_function(1, 3, "narrow")->attributes.max_threads_per_block, 64u);
  EXPECT_STATUS(context->get_function(1, 4, "no_such_kernel"), kNotFound);
  EXPECT_STATUS(context->get_function(1, 1, "bump"), kInvalidValue);
  const auto counter = context->get_global(1, "counter");
  ASSERT_TRUE(counter);
  EXPECT_EQ(counter->bytes, 4u);
  EXPECT_EQ(load<uint32_t>(*context, counter->address, 1)[0], 5u);
  const auto address = context->get_global(1, "counter_address");
  ASSERT_TRUE(address);
  EXPECT_EQ(load<uint64_t>(*context, address->address, 1)[0], counter->address);
  EXPECT_EQ(load<uint8_t>(*context, context->get_global(1, "table")->address, 8)[7], 8);
  EXPECT_STATUS(context->get_global(1, "no_such_variable"), kNotFound);
  ASSERT_DONE(context->unload_module(1));
  EXPECT_STATUS(get(*context, counter->address, 4), kInvalidValue);
  EXPECT_STATUS(context->unload_module(1), kInvalidHandle);
  EXPECT_STATUS(context->launch(0, launch_of(1, 1, 1), {}), kInvalidHandle);
}

TEST_P(BackendConformance, ALaterArchitectureIsRefused) {
  const auto context = make_context();
  const auto loaded = context->load_module(
      1, image_of(".version 8.4\n.target sm_90\n.address_size 64\n.visible .entry f()\n{\n  ret;\n}\n"));
  ASSERT_FALSE(loaded);
  EXPECT_TRUE(loaded.error().status == protocol::Status::kInvalidPtx ||
              loaded.error().status == protocol::Status::kNoBinaryForGpu)
      << loaded.error().reason;
}

}  // namespace
}  // namespace vgpu::device
