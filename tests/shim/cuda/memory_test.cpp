// Allocations, copies of every kind, fills, pinned memory, pointers, and virtual memory management.
#include <array>
#include <cstring>
#include <thread>

#include "tests/shim/cuda/fixture.h"

namespace vgpu::shim::testing {
namespace {

TEST_F(DriverTest, CopiesOfEverySizeComeBackAsTheyWent) {
  for (const size_t count : {1u, 3u, 1024u, 1025u, 65536u, 65537u, 5u << 20}) {
    const auto values = numbers(count, 7);
    const CUdeviceptr memory = allocate(count * 4);
    ASSERT_CUDA(cuMemcpyHtoD_v2(memory, values.data(), count * 4));
    std::vector<uint32_t> back(count);
    ASSERT_CUDA(cuMemcpyDtoH_v2(back.data(), memory, count * 4));
    EXPECT_EQ(back, values) << count;
    const CUdeviceptr other = allocate(count * 4);
    ASSERT_CUDA(cuMemcpyDtoD_v2(other, memory, count * 4));
    std::fill(back.begin(), back.end(), 0);
    ASSERT_CUDA(cuMemcpy(reinterpret_cast<CUdeviceptr>(back.data()), other, count * 4));
    EXPECT_EQ(back, values) << count;
    EXPECT_CUDA(cuMemFree_v2(memory));
    EXPECT_CUDA(cuMemFree_v2(other));
  }
}

// Around every limit of the copy engine: inline, staged, whole slots, around the caches.
TEST_F(DriverTest, CopiesOfOddSizesFromAndToOddAddressesTouchNothingElse) {
  constexpr size_t kLargest = (5u << 20) + 13;
  const auto words = numbers(kLargest / 4 + 64, 11);
  const auto* source = reinterpret_cast<const unsigned char*>(words.data());
  const CUdeviceptr memory = allocate(kLargest + 256);
  std::vector<unsigned char> back(kLargest + 256);
  for (const size_t bytes : {size_t{1}, size_t{63}, size_t{1023}, size_t{1024}, size_t{1025}, size_t{2047},
                             size_t{2049}, size_t{262143}, size_t{262145}, kLargest}) {
    for (const size_t skew : {size_t{1}, size_t{7}, size_t{64}}) {
      ASSERT_CUDA(cuMemsetD8_v2(memory, 0xcc, bytes + 128));
      ASSERT_CUDA(cuMemcpyHtoD_v2(memory + skew, source + 65 - skew, bytes));
      std::memset(back.data(), 0x55, bytes + 256);
      ASSERT_CUDA(cuMemcpyDtoH_v2(back.data() + 3, memory + skew - 1, bytes + 2));
      EXPECT_EQ(std::memcmp(back.data() + 4, source + 65 - skew, bytes), 0) << bytes << " bytes, " << skew;
      EXPECT_EQ(back[3], 0xcc);
      EXPECT_EQ(back[4 + bytes], 0xcc);
      EXPECT_EQ(back[2], 0x55);
      EXPECT_EQ(back[5 + bytes], 0x55);
    }
  }
  EXPECT_CUDA(cuMemFree_v2(memory));
}

TEST_F(DriverTest, MemoryThatWasCopiedToIsForgottenWhenItIsFreed) {
  const std::array<unsigned char, 64> values{};
  const CUdeviceptr memory = allocate(4096);
  ASSERT_CUDA(cuMemcpyHtoD_v2(memory, values.data(), values.size()));
  ASSERT_CUDA(cuMemFree_v2(memory));
  EXPECT_EQ(cuMemcpyHtoD_v2(memory, values.data(), values.size()), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, AnAsynchronousCopyMayOverwriteItsPageableSourceAtOnce) {
  std::vector<uint32_t> values = numbers(1 << 20);
  const CUdeviceptr memory = allocate(values.size() * 4);
  for (uint32_t round = 0; round < 4; ++round) {
    std::fill(values.begin(), values.end(), round);
    ASSERT_CUDA(cuMemcpyHtoDAsync_v2(memory + round * 4096, values.data(), 4096, nullptr));
    ASSERT_CUDA(cuMemcpyHtoDAsync_v2(memory + (round + 4) * 400000, values.data(), 400000, nullptr));
    std::fill(values.begin(), values.end(), 99);
  }
  std::vector<uint32_t> back(values.size());
  ASSERT_CUDA(cuMemcpyDtoH_v2(back.data(), memory, back.size() * 4));
  for (uint32_t round = 0; round < 4; ++round) {
    EXPECT_EQ(back[round * 1024], round);
    EXPECT_EQ(back[(round + 4) * 100000 + 99999], round);
  }
}

TEST_F(DriverTest, ThreadsThatCopyAtTheSameTimeDoNotMixTheirData) {
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 6; ++t) {
    threads.emplace_back([&, t] {
      ASSERT_CUDA(cuCtxSetCurrent(context_));
      const auto values = numbers(300000, t * 1000003);
      const CUdeviceptr memory = allocate(values.size() * 4);
      std::vector<uint32_t> back(values.size());
      for (int round = 0; round < 3; ++round) {
        ASSERT_CUDA(cuMemcpyHtoDAsync_v2(memory, values.data(), values.size() * 4, CU_STREAM_PER_THREAD));
        ASSERT_CUDA(cuMemcpyDtoHAsync_v2(back.data(), memory, values.size() * 4, CU_STREAM_PER_THREAD));
        ASSERT_CUDA(cuStreamSynchronize(CU_STREAM_PER_THREAD));
        ASSERT_EQ(back, values);
      }
      EXPECT_CUDA(cuMemFree_v2(memory));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(DriverTest, RowsAreCopiedBetweenPitches) {
  constexpr size_t kWidth = 100;
  constexpr size_t kHeight = 37;
  size_t pitch = 0;
  CUdeviceptr memory = 0;
  ASSERT_CUDA(cuMemAllocPitch_v2(&memory, &pitch, kWidth, kHeight, 4));
  EXPECT_EQ(pitch % 512, 0u);
  std::vector<unsigned char> from(128 * kHeight);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<unsigned char>(i * 7);
  CUDA_MEMCPY2D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_HOST;
  copy.srcHost = from.data();
  copy.srcPitch = 128;
  copy.srcXInBytes = 5;
  copy.dstMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.dstDevice = memory;
  copy.dstPitch = pitch;
  copy.WidthInBytes = kWidth;
  copy.Height = kHeight;
  ASSERT_CUDA(cuMemcpy2D_v2(&copy));
  std::vector<unsigned char> to(kWidth * kHeight);
  CUDA_MEMCPY2D back{};
  back.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  back.srcDevice = memory;
  back.srcPitch = pitch;
  back.dstMemoryType = CU_MEMORYTYPE_HOST;
  back.dstHost = to.data();
  back.dstPitch = kWidth;
  back.WidthInBytes = kWidth;
  back.Height = kHeight;
  ASSERT_CUDA(cuMemcpy2DAsync_v2(&back, nullptr));
  ASSERT_CUDA(cuCtxSynchronize());
  for (size_t y = 0; y < kHeight; ++y) {
    ASSERT_EQ(std::memcmp(&to[y * kWidth], &from[y * 128 + 5], kWidth), 0) << y;
  }
  back.dstPitch = kWidth - 1;
  EXPECT_EQ(cuMemcpy2D_v2(&back), CUDA_ERROR_INVALID_VALUE);
  back.dstPitch = kWidth;
  back.Height = 1000;
  EXPECT_EQ(cuMemcpy2DUnaligned_v2(&back), CUDA_ERROR_INVALID_VALUE) << "beyond the allocation";
  back.srcMemoryType = CU_MEMORYTYPE_ARRAY;
  EXPECT_EQ(cuMemcpy2D_v2(&back), CUDA_ERROR_NOT_SUPPORTED);
}

TEST_F(DriverTest, BoxesAreCopied) {
  const auto values = numbers(4 * 5 * 6);
  const CUdeviceptr memory = allocate(values.size() * 4);
  ASSERT_CUDA(cuMemcpyHtoD_v2(memory, values.data(), values.size() * 4));
  std::vector<uint32_t> to(2 * 3 * 2);
  CUDA_MEMCPY3D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = memory;
  copy.srcPitch = 16;
  copy.srcHeight = 5;
  copy.srcXInBytes = 4;
  copy.srcY = 1;
  copy.srcZ = 2;
  copy.dstMemoryType = CU_MEMORYTYPE_HOST;
  copy.dstHost = to.data();
  copy.dstPitch = 8;
  copy.dstHeight = 3;
  copy.WidthInBytes = 8;
  copy.Height = 3;
  copy.Depth = 2;
  ASSERT_CUDA(cuMemcpy3D_v2(&copy));
  for (uint32_t z = 0; z < 2; ++z)
    for (uint32_t y = 0; y < 3; ++y)
      for (uint32_t x = 0; x < 2; ++x)
        EXPECT_EQ(to[(z * 3 + y) * 2 + x], values[((z + 2) * 5 + y + 1) * 4 + x + 1]);
}

TEST_F(DriverTest, FillsReachExactlyTheirElements) {
  const CUdeviceptr memory = allocate(4096);
  ASSERT_CUDA(cuMemsetD8_v2(memory, 0, 4096));
  ASSERT_CUDA(cuMemsetD32_v2(memory + 16, 0xdeadbeef, 4));
  ASSERT_CUDA(cuMemsetD16Async(memory + 64, 0x1234, 3, nullptr));
  ASSERT_CUDA(cuMemsetD2D8_v2(memory + 1024, 256, 7, 10, 4));
  std::vector<unsigned char> back(4096);
  ASSERT_CUDA(cuMemcpyDtoH_v2(back.data(), memory, 4096));
  EXPECT_EQ(back[15], 0);
  EXPECT_EQ(back[16], 0xef);
  EXPECT_EQ(back[31], 0xde);
  EXPECT_EQ(back[32], 0);
  EXPECT_EQ(back[64], 0x34);
  EXPECT_EQ(back[69], 0x12);
  EXPECT_EQ(back[70], 0);
  EXPECT_EQ(back[1024 + 3 * 256 + 9], 7);
  EXPECT_EQ(back[1024 + 3 * 256 + 10], 0);
  EXPECT_EQ(cuMemsetD32_v2(memory + 2, 0, 1), CUDA_ERROR_INVALID_VALUE) << "not aligned";
  EXPECT_EQ(cuMemsetD8_v2(memory + 4000, 0, 97), CUDA_ERROR_INVALID_VALUE) << "beyond the allocation";
  EXPECT_EQ(cuMemsetD2D8_v2(memory, 8, 0, 9, 2), CUDA_ERROR_INVALID_VALUE) << "wider than the pitch";
}

TEST_F(DriverTest, WrongPointersAndSizesAreRefused) {
  CUdeviceptr memory = 0;
  EXPECT_EQ(cuMemAlloc_v2(&memory, 0), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemAlloc_v2(nullptr, 4), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemAlloc_v2(&memory, size_t{1} << 40), CUDA_ERROR_OUT_OF_MEMORY);
  memory = allocate(256);
  char byte = 0;
  EXPECT_EQ(cuMemcpyHtoD_v2(memory + 250, &byte, 7), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemcpyHtoD_v2(0, &byte, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemcpyDtoH_v2(&byte, memory - 1, 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemFree_v2(memory + 1), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CUDA(cuMemFree_v2(memory));
  EXPECT_EQ(cuMemFree_v2(memory), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CUDA(cuMemFree_v2(0));
  EXPECT_EQ(cuMemcpyDtoH_v2(&byte, memory, 1), CUDA_ERROR_INVALID_VALUE) << "freed";
}

TEST_F(DriverTest, OutOfMemoryHarmsNothingAndMemoryComesBack) {
  std::vector<CUdeviceptr> held;
  CUdeviceptr memory = 0;
  CUresult result = CUDA_SUCCESS;
  while ((result = cuMemAlloc_v2(&memory, 32 << 20)) == CUDA_SUCCESS) held.push_back(memory);
  EXPECT_EQ(result, CUDA_ERROR_OUT_OF_MEMORY);
  EXPECT_GE(held.size(), 7u);
  for (const CUdeviceptr pointer : held) EXPECT_CUDA(cuMemFree_v2(pointer));
  EXPECT_CUDA(cuMemFree_v2(allocate(200 << 20))) << "frees stand before the allocation in the ring";
}

TEST_F(DriverTest, PinnedMemoryIsCopiedInPlaceAndKnown) {
  uint32_t* pinned = nullptr;
  ASSERT_CUDA(cuMemHostAlloc(reinterpret_cast<void**>(&pinned), 1 << 20, kMemHostAllocPortable));
  const CUdeviceptr memory = allocate(1 << 20);
  for (uint32_t i = 0; i < 1 << 18; ++i) pinned[i] = i ^ 0x5555;
  ASSERT_CUDA(cuMemcpyHtoDAsync_v2(memory, pinned, 1 << 20, nullptr));
  ASSERT_CUDA(cuCtxSynchronize());
  std::memset(pinned, 0, 1 << 20);
  ASSERT_CUDA(cuMemcpyDtoHAsync_v2(pinned, memory, 1 << 20, nullptr));
  ASSERT_CUDA(cuCtxSynchronize());
  EXPECT_EQ(pinned[12345], 12345u ^ 0x5555);
  unsigned type = 0;
  EXPECT_CUDA(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE,
                                    reinterpret_cast<CUdeviceptr>(pinned + 5)));
  EXPECT_EQ(type, CU_MEMORYTYPE_HOST);
  unsigned flags = 0;
  EXPECT_CUDA(cuMemHostGetFlags(&flags, pinned));
  EXPECT_EQ(flags, kMemHostAllocPortable);
  CUdeviceptr address = 0;
  EXPECT_CUDA(cuMemHostGetDevicePointer_v2(&address, pinned + 1, 0));
  EXPECT_NE(address, 0u);
  EXPECT_CUDA(cuMemFreeHost(pinned));
  EXPECT_EQ(cuMemFreeHost(pinned), CUDA_ERROR_INVALID_VALUE);
}

// Pinned memory of `count` elements and the device's address of it.
struct Pinned {
  explicit Pinned(size_t count) {
    EXPECT_CUDA(cuMemHostAlloc(reinterpret_cast<void**>(&host), count * 4, kMemHostAllocDeviceMap));
    EXPECT_CUDA(cuMemHostGetDevicePointer_v2(&device, host, 0));
  }
  ~Pinned() {
    if (host != nullptr) {
      EXPECT_CUDA(cuMemFreeHost(host));
    }
  }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;
  uint32_t* host = nullptr;
  CUdeviceptr device = 0;
};

TEST_F(DriverTest, PinnedMemoryIsCopiedThroughTheAddressTheDeviceHasForIt) {
  constexpr size_t kCount = 1 << 18;
  const Pinned from(kCount);
  const Pinned to(kCount);
  const auto expect = [&](const auto& found, uint32_t first, const char* what) {
    EXPECT_EQ(found[0], first) << what;
    EXPECT_EQ(found[kCount - 1], first + kCount - 1) << what;
  };
  std::iota(from.host, from.host + kCount, 7u);
  const CUdeviceptr memory = allocate(kCount * 4);
  ASSERT_CUDA(cuMemcpyDtoD_v2(memory, from.device, kCount * 4));
  std::vector<uint32_t> back(kCount);
  ASSERT_CUDA(cuMemcpyDtoH_v2(back.data(), memory, kCount * 4));
  expect(back, 7, "from pinned to device memory");
  ASSERT_CUDA(cuMemcpyDtoD_v2(to.device, memory, kCount * 4));
  ASSERT_CUDA(cuCtxSynchronize());
  expect(to.host, 7, "from device to pinned memory");

  const auto values = numbers(kCount, 11);
  ASSERT_CUDA(cuMemcpyHtoD_v2(from.device, values.data(), kCount * 4));
  ASSERT_CUDA(cuCtxSynchronize());
  expect(from.host, 11, "from pageable to pinned memory");
  ASSERT_CUDA(cuMemcpyDtoH_v2(back.data(), from.device, kCount * 4));
  expect(back, 11, "from pinned to pageable memory");
  ASSERT_CUDA(cuMemcpyAsync(to.device, from.device, kCount * 4, nullptr));
  ASSERT_CUDA(cuCtxSynchronize());
  expect(to.host, 11, "from pinned to pinned memory");
}

TEST_F(DriverTest, PinnedMemoryIsFilledAndComputedWithThroughTheAddressTheDeviceHasForIt) {
  const Pinned pinned(1000);
  ASSERT_CUDA(cuMemsetD32_v2(pinned.device, 5, 1000));
  ASSERT_CUDA(add(function("add"), pinned.device, 1000, 3));
  ASSERT_CUDA(cuStreamWriteValue32_v2(nullptr, pinned.device + 400, 77, 0));
  ASSERT_CUDA(cuCtxSynchronize());
  EXPECT_EQ(pinned.host[0], 8u);
  EXPECT_EQ(pinned.host[100], 77u);
  EXPECT_EQ(pinned.host[999], 8u);
  ASSERT_CUDA(cuMemsetD32_v2(reinterpret_cast<CUdeviceptr>(pinned.host + 1), 9, 2));
  ASSERT_CUDA(cuCtxSynchronize());
  EXPECT_EQ(pinned.host[0], 8u);
  EXPECT_EQ(pinned.host[2], 9u) << "unified addressing: the host's address will do";
}

TEST_F(DriverTest, TheAddressTheDeviceHasForPinnedMemoryIsBoundedAndEndsWithIt) {
  uint32_t word = 0;
  CUdeviceptr address = 0;
  {
    const Pinned pinned(1024);
    address = pinned.device;
    unsigned type = 0;
    void* host = nullptr;
    EXPECT_CUDA(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address + 8));
    EXPECT_EQ(type, CU_MEMORYTYPE_HOST);
    EXPECT_CUDA(
        cuPointerGetAttribute(static_cast<void*>(&host), CU_POINTER_ATTRIBUTE_HOST_POINTER, address + 8));
    EXPECT_EQ(host, pinned.host + 2);
    EXPECT_EQ(cuMemFree_v2(address), CUDA_ERROR_INVALID_VALUE) << "cuMemFreeHost frees it";
    EXPECT_EQ(cuMemcpyDtoH_v2(&word, address + 4096, 4), CUDA_ERROR_INVALID_VALUE) << "behind its end";
    EXPECT_EQ(cuMemsetD32_v2(address + 4092, 0, 2), CUDA_ERROR_INVALID_VALUE) << "across its end";
  }
  EXPECT_EQ(cuMemcpyDtoH_v2(&word, address, 4), CUDA_ERROR_INVALID_VALUE) << "freed";
}

TEST_F(DriverTest, PinnedMemoryFallsBackWhenTheHeapIsFull) {
  std::vector<void*> held;
  for (int i = 0; i < 8; ++i) {
    void* pointer = nullptr;
    ASSERT_CUDA(cuMemHostAlloc(&pointer, 8 << 20, 0));
    std::memset(pointer, i, 8 << 20);
    held.push_back(pointer);
  }
  const CUdeviceptr memory = allocate(8 << 20);
  std::vector<unsigned char> back(8 << 20);
  for (int i = 0; i < 8; ++i) {
    ASSERT_CUDA(cuMemcpyHtoD_v2(memory, held[static_cast<size_t>(i)], 8 << 20));
    ASSERT_CUDA(cuMemcpyDtoH_v2(back.data(), memory, 8 << 20));
    EXPECT_EQ(back[7 << 20], i);
    EXPECT_CUDA(cuMemFreeHost(held[static_cast<size_t>(i)]));
  }
}

TEST_F(DriverTest, RegisteredMemoryIsKeptInBooks) {
  std::vector<char> mine(1 << 16);
  EXPECT_CUDA(cuMemHostRegister_v2(mine.data(), mine.size(), 0));
  EXPECT_EQ(cuMemHostRegister_v2(mine.data() + 100, 10, 0), CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
  EXPECT_EQ(cuMemFreeHost(mine.data()), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CUDA(cuMemHostUnregister(mine.data()));
  EXPECT_EQ(cuMemHostUnregister(mine.data()), CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED);
  EXPECT_EQ(cuMemHostRegister_v2(mine.data(), mine.size(), kMemHostRegisterDeviceMap),
            CUDA_ERROR_NOT_SUPPORTED);
}

TEST_F(DriverTest, PointersTellWhatTheyAre) {
  const CUdeviceptr memory = allocate(4096);
  unsigned type = 0;
  CUdeviceptr start = 0;
  size_t bytes = 0;
  EXPECT_CUDA(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, memory + 100));
  EXPECT_EQ(type, CU_MEMORYTYPE_DEVICE);
  EXPECT_CUDA(cuPointerGetAttribute(&start, CU_POINTER_ATTRIBUTE_RANGE_START_ADDR, memory + 100));
  EXPECT_EQ(start, memory);
  EXPECT_CUDA(cuMemGetAddressRange_v2(&start, &bytes, memory + 4095));
  EXPECT_EQ(start, memory);
  EXPECT_EQ(bytes, 4096u);
  int on_stack = 0;
  const auto foreign = reinterpret_cast<CUdeviceptr>(&on_stack);
  EXPECT_EQ(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, foreign),
            CUDA_ERROR_INVALID_VALUE);
  EXPECT_EQ(cuMemGetAddressRange_v2(&start, &bytes, foreign), CUDA_ERROR_NOT_FOUND);
  CUpointer_attribute attributes[] = {CU_POINTER_ATTRIBUTE_MEMORY_TYPE, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL};
  int ordinal = 0;
  void* data[] = {&type, &ordinal};
  EXPECT_CUDA(cuPointerGetAttributes(2, attributes, data, foreign));
  EXPECT_EQ(type, 0u);
  EXPECT_EQ(ordinal, kInvalidDeviceOrdinal);
}

TEST_F(DriverTest, MappedMemoryIsAccessibleWhereItIsMapped) {
  CUmemAllocationProp properties{};
  properties.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  properties.location = {CU_MEM_LOCATION_TYPE_DEVICE, 0};
  size_t granularity = 0;
  ASSERT_CUDA(cuMemGetAllocationGranularity(&granularity, &properties, CU_MEM_ALLOC_GRANULARITY_RECOMMENDED));
  CUdeviceptr range = 0;
  ASSERT_CUDA(cuMemAddressReserve(&range, 8 * granularity, 0, 0, 0));
  CUmemGenericAllocationHandle first = 0;
  CUmemGenericAllocationHandle second = 0;
  ASSERT_CUDA(cuMemCreate(&first, granularity, &properties, 0));
  ASSERT_CUDA(cuMemCreate(&second, granularity, &properties, 0));
  ASSERT_CUDA(cuMemMap(range, granularity, 0, first, 0));
  ASSERT_CUDA(cuMemMap(range + granularity, granularity, 0, second, 0));
  CUmemAccessDesc access{};
  access.location = properties.location;
  access.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  ASSERT_CUDA(cuMemSetAccess(range, 2 * granularity, &access, 1));
  unsigned long long flags = 0;
  ASSERT_CUDA(cuMemGetAccess(&flags, &properties.location, range + granularity));
  EXPECT_EQ(flags, 3u);
  const auto values = numbers(1000);
  ASSERT_CUDA(cuMemcpyHtoD_v2(range + granularity - 2000, values.data(), 4000)) << "across two mappings";
  std::vector<uint32_t> back(1000);
  ASSERT_CUDA(cuMemcpyDtoH_v2(back.data(), range + granularity - 2000, 4000));
  EXPECT_EQ(back, values);
  EXPECT_EQ(cuMemcpyHtoD_v2(range + 2 * granularity, values.data(), 4), CUDA_ERROR_INVALID_VALUE)
      << "not mapped";
  EXPECT_EQ(cuMemMap(range + 64 * granularity, granularity, 0, first, 0), CUDA_ERROR_INVALID_VALUE)
      << "not reserved";
  CUmemGenericAllocationHandle again = 0;
  ASSERT_CUDA(cuMemRetainAllocationHandle(&again, reinterpret_cast<void*>(range)));
  EXPECT_EQ(again, first);
  EXPECT_CUDA(cuMemRelease(again));
  EXPECT_CUDA(cuMemRelease(first));
  EXPECT_EQ(cuMemRelease(first), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CUDA(cuMemUnmap(range, 2 * granularity));
  EXPECT_CUDA(cuMemRelease(second));
  EXPECT_EQ(cuMemAddressFree(range, granularity), CUDA_ERROR_INVALID_VALUE);
  EXPECT_CUDA(cuMemAddressFree(range, 8 * granularity));
  EXPECT_EQ(cuMemCreate(&first, granularity + 1, &properties, 0), CUDA_ERROR_INVALID_VALUE);
}

TEST_F(DriverTest, StreamOrderedAllocationsWork) {
  CUdeviceptr memory = 0;
  ASSERT_CUDA(cuMemAllocAsync(&memory, 4096, nullptr));
  EXPECT_CUDA(cuMemsetD8Async(memory, 1, 4096, nullptr));
  EXPECT_CUDA(cuMemFreeAsync(memory, nullptr));
  EXPECT_EQ(cuMemFreeAsync(memory, nullptr), CUDA_ERROR_INVALID_VALUE);
}

}  // namespace
}  // namespace vgpu::shim::testing
