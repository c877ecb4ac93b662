// Bad input, one client program each: the client checks CUDA's answer, this looks for the reason in the
// device's log and in `vgpu-probe show`, while a second client works on.
#include "ring/region_layout.h"
#include "tests/system/system_device.h"

namespace vgpu::system_tests {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Case {
  std::string name;
  int error = 0;
  std::vector<std::string> reason;  // words of the device about it
};

void PrintTo(const Case& bad, std::ostream* out) {
  *out << bad.name;
}

class BadInput : public SystemTest, public ::testing::WithParamInterface<Case> {};

TEST_P(BadInput, IsTheDocumentedErrorWithItsReasonAndOfNoConcernToOthers) {
  const Case& bad = GetParam();
  Client client("bad", bad.name);
  ASSERT_EQ(client.line(), "done") << device_.log();
  if (bad.error != 0) {
    nlohmann::json last;
    EXPECT_TRUE(eventually([&] {
      const auto channel = device_.show_channel(client.pid());
      if (channel.is_object() && channel.contains("last_error")) last = channel["last_error"];
      return last.is_object();
    })) << device_.log();
    EXPECT_EQ(last.value("code", 0), bad.error) << last;
    const std::string reason = last.value("reason", "");
    for (const auto& word : bad.reason) {
      EXPECT_THAT(reason, HasSubstr(word));
      EXPECT_TRUE(device_.logs(word)) << word << " is not in\n" << device_.log();
    }
    EXPECT_TRUE(device_.logs("CUDA error " + std::to_string(bad.error))) << device_.log();
  }
  expect_bystander_works();
  EXPECT_EQ(client.end(), 0);
  expect_bystander_works();
  EXPECT_TRUE(worker_lives()) << device_.log();
  EXPECT_TRUE(eventually([&] { return device_.channels_served() == 1; }));
}

INSTANTIATE_TEST_SUITE_P(
    Each, BadInput,
    ::testing::Values(
        Case{"no_image", 200, {"neither a fatbin, nor PTX text"}},
        Case{"damaged_fatbin", 200, {"fatbin entry at byte 16"}}, Case{"truncated_fatbin", 200, {"fatbin"}},
        Case{"truncated_fatbin_file", 200, {"fatbin"}},
        Case{"damaged_compression", 200, {"the LZ4 data of a fatbin entry is damaged"}},
        Case{"damaged_ptx", 218, {":7:", "in `add`"}}, Case{"truncated_ptx", 218, {":27:", "add_one"}},
        Case{"unknown_opcode", 218, {":7:", "frobnicate"}}, Case{"newer_ptx_version", 222, {"99.0"}},
        Case{"no_ptx_for_the_capability", 209, {"no PTX for capability 6.1", "sm_90"}},
        Case{"ptx_text_for_another_capability", 218, {"sm_90", "6.1"}},
        Case{"no_such_kernel", 500, {"nobody"}}, Case{"out_of_memory", 2, {"MemAlloc"}},
        Case{"too_many_threads", 1, {"add_one", "(1025, 1, 1) threads"}},
        Case{"more_threads_than_the_kernel_allows", 701, {"launch of k", "65 threads", "at most 64"}},
        Case{"too_much_shared_memory", 1, {"add_one", "49153 bytes of dynamic shared memory"}},
        Case{"no_parameters", 1, {"add_one", "parameter"}}, Case{"copy_to_null", 1, {"0x0"}},
        Case{"copy_to_foreign", 1, {"0xdead000"}}, Case{"copy_past_the_end", 1, {"1048576 bytes"}},
        Case{"free_foreign", 1, {"0xdead000"}},
        Case{"kernel_stores_to_null", 700, {"kernel store", "illegal address outside the device window"}},
        Case{"kernel_stores_to_foreign", 700, {"kernel store", "illegal address outside the device window"}},
        Case{"kernel_stores_past_the_end", 700, {"kernel store", "illegal address"}},
        Case{"kernel_stores_to_freed", 700, {"kernel store", "illegal address"}},
        Case{"kernel_stores_to_a_host_pointer", 700, {"kernel store", "illegal address"}},
        Case{"kernel_traps", 719, {"k"}}, Case{"no_host_memory", 0, {}}),
    [](const auto& instance) { return instance.param.name; });

// ---- devices that are not there, or not right ----

std::string init_answer(const std::string& device) {
  ::setenv("VGPU_DEVICE", device.c_str(), 1);
  Client client("init");
  const auto begin = std::chrono::steady_clock::now();
  const std::string answer = client.line();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(3));
  EXPECT_EQ(client.end(), 0);
  return answer;
}

TEST_F(SystemTest, NoDeviceAndAnotherVersionAreSaidAtOnce) {
  EXPECT_EQ(init_answer("/dev/shm/vgpu-there-is-none"), "100");
  const int file = ::open(device_.path().c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_GE(file, 0);
  for (const std::size_t offset :
       {offsetof(ring::RegionHeader, protocol_hash), offsetof(ring::RegionHeader, layout_version)}) {
    uint64_t value = 0;
    ASSERT_EQ(::pread(file, &value, sizeof value, static_cast<off_t>(offset)), 8);
    value ^= 2;
    ASSERT_EQ(::pwrite(file, &value, sizeof value, static_cast<off_t>(offset)), 8);
    EXPECT_EQ(init_answer(device_.path()), "803") << offset;
    value ^= 2;
    ASSERT_EQ(::pwrite(file, &value, sizeof value, static_cast<off_t>(offset)), 8);
  }
  ::close(file);
  EXPECT_EQ(init_answer(device_.path()), "0");
  expect_bystander_works();
}

}  // namespace
}  // namespace vgpu::system_tests
