// A CUDA program that does what the test tells it, inside a guest: one command a line on standard input, one
// line back, which begins with the command and CUDA's own result. It ends with its input.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "ring/wait.h"
#include "tests/system/client.h"

namespace vgpu::system_tests {
namespace {

uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t thread_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

uint64_t median(std::vector<uint64_t> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

// The first result that is not success.
class Steps {
 public:
  Steps& operator<<(CUresult result) {
    if (first_ == CUDA_SUCCESS) first_ = result;
    return *this;
  }
  bool good() const { return first_ == CUDA_SUCCESS; }
  int number() const { return static_cast<int>(first_); }

 private:
  CUresult first_ = CUDA_SUCCESS;
};

class Client {
 public:
  std::string answer(const std::string& line) {
    std::istringstream words(line);
    std::string command;
    uint64_t a = 0;
    uint64_t b = 0;
    uint64_t c = 0;
    words >> command >> a >> b >> c;
    std::ostringstream out;
    out << command << ' ';
    if (command == "open") {
      open(out);
    } else if (command == "alloc") {
      CUdeviceptr memory = 0;
      const CUresult result = cuMemAlloc_v2(&memory, a);
      out << static_cast<int>(result) << ' ' << memory;
    } else if (command == "fill") {
      Steps steps;
      steps << cuMemsetD32_v2(a, static_cast<unsigned>(c), b / 4) << cuCtxSynchronize();
      out << steps.number();
    } else if (command == "read") {
      uint32_t word = 0;
      const CUresult result = cuMemcpyDtoH_v2(&word, a, sizeof word);
      out << static_cast<int>(result) << ' ' << word;
    } else if (command == "kernel") {
      kernel(out, a);
    } else if (command == "copy") {
      copy(out, a);
    } else if (command == "spin") {
      spin(out);
    } else if (command == "sync") {
      out << static_cast<int>(cuCtxSynchronize());
    } else if (command == "measure") {
      measure(out);
    } else if (command == "waits") {
      waits(out);
    } else {
      out << "-1 unknown command";
    }
    return out.str();
  }

 private:
  void open(std::ostringstream& out) {
    char address[32] = "-";
    CUcontext context = nullptr;
    Steps steps;
    steps << cuInit(0);
    if (steps.good()) steps << cuDevicePrimaryCtxRetain(&context, 0) << cuCtxSetCurrent(context);
    if (steps.good()) steps << cuDeviceGetPCIBusId(address, sizeof address, 0);
    if (steps.good()) steps << cuModuleLoadData(&module_, good_ptx().c_str());
    if (steps.good()) {
      steps << cuModuleGetFunction(&add_one_, module_, "add_one")
            << cuModuleGetFunction(&spin_, module_, "spin");
    }
    out << steps.number() << ' ' << address;
  }

  // `words` numbers, plus one each by a kernel: how many are wrong.
  void kernel(std::ostringstream& out, uint64_t words) const {
    std::vector<uint32_t> numbers(words);
    for (uint64_t i = 0; i < words; ++i) numbers[i] = static_cast<uint32_t>(i * 2654435761U);
    CUdeviceptr memory = 0;
    Steps steps;
    steps << cuMemAlloc_v2(&memory, words * 4);
    if (steps.good()) steps << cuMemcpyHtoD_v2(memory, numbers.data(), words * 4);
    if (steps.good()) steps << launch(add_one_, {&memory}, 128, 0, static_cast<unsigned>(words / 128));
    if (steps.good()) steps << cuMemcpyDtoH_v2(numbers.data(), memory, words * 4);
    uint64_t wrong = 0;
    for (uint64_t i = 0; i < words; ++i) wrong += numbers[i] != static_cast<uint32_t>(i * 2654435761U) + 1;
    if (memory != 0) steps << cuMemFree_v2(memory);
    out << steps.number() << ' ' << wrong;
  }

  // There and back, through pageable memory that begins at no boundary: how many bytes differ.
  static void copy(std::ostringstream& out, uint64_t bytes) {
    std::vector<unsigned char> there(bytes + 3);
    std::vector<unsigned char> back(bytes + 5);
    uint64_t state = bytes + 1;
    for (auto& byte : there) {
      state = state * 6364136223846793005U + 1442695040888963407U;
      byte = static_cast<unsigned char>(state >> 56);
    }
    CUdeviceptr memory = 0;
    Steps steps;
    steps << cuMemAlloc_v2(&memory, bytes);
    if (steps.good()) steps << cuMemcpyHtoD_v2(memory, there.data() + 3, bytes);
    if (steps.good()) steps << cuMemcpyDtoH_v2(back.data() + 5, memory, bytes);
    uint64_t differ = 0;
    for (uint64_t i = 0; i < bytes; ++i) differ += there[i + 3] != back[i + 5];
    if (memory != 0) steps << cuMemFree_v2(memory);
    out << steps.number() << ' ' << differ;
  }

  // Starts a kernel that never ends.
  void spin(std::ostringstream& out) const {
    CUdeviceptr flag = 0;
    Steps steps;
    steps << cuMemAlloc_v2(&flag, 16);
    if (steps.good()) steps << cuMemsetD8_v2(flag, 0, 16) << cuCtxSynchronize();
    if (steps.good()) steps << launch(spin_, {&flag});
    out << steps.number();
  }

  // Medians in nanoseconds: submitting a launch; copying 16 MiB to the device and back; memcpy of the same 16
  // MiB.
  void measure(std::ostringstream& out) const {
    constexpr std::size_t kBytes = 16u << 20;
    constexpr int kLaunches = 2000;
    std::vector<unsigned char> here(kBytes, 1);
    std::vector<unsigned char> other(kBytes, 2);
    CUdeviceptr memory = 0;
    Steps steps;
    steps << cuMemAlloc_v2(&memory, kBytes);
    if (!steps.good()) {
      out << steps.number();
      return;
    }
    std::vector<uint64_t> launches;
    for (int i = 0; i < kLaunches && steps.good(); ++i) {
      const uint64_t start = now_ns();
      steps << launch(add_one_, {&memory}, 32);
      launches.push_back(now_ns() - start);
      if (i % 256 == 255) steps << cuCtxSynchronize();
    }
    steps << cuCtxSynchronize();
    std::vector<uint64_t> to_device;
    std::vector<uint64_t> from_device;
    std::vector<uint64_t> copies;
    for (int i = 0; i < 9 && steps.good(); ++i) {
      const uint64_t start = now_ns();
      steps << cuMemcpyHtoD_v2(memory, here.data(), kBytes);
      const uint64_t there = now_ns();
      steps << cuMemcpyDtoH_v2(other.data(), memory, kBytes);
      const uint64_t back = now_ns();
      std::memcpy(other.data(), here.data(), kBytes);
      to_device.push_back(there - start);
      from_device.push_back(back - there);
      copies.push_back(now_ns() - back);
    }
    steps << cuMemFree_v2(memory);
    out << steps.number();
    if (steps.good()) {
      out << " launch_ns " << median(launches) << " copy_to_device_ns " << median(to_device)
          << " copy_from_device_ns " << median(from_device) << " memcpy_ns " << median(copies);
    }
  }

  // How late a guest's thread sees an answer that comes after so many microseconds, and which share of that
  // time it kept a processor: medians. The other side is a thread of this process, so that nothing but the
  // wait is measured.
  static void waits(std::ostringstream& out) {
    constexpr uint64_t kDelaysUs[] = {10, 50, 200, 1000, 5000, 20'000, 100'000};
    const auto control = std::make_unique<ring::ChannelControl>();
    uint64_t& word = control->consumer.completed;
    ring::GuestWaits guest(*control, ring::polling_wait_ops());
    out << "0";
    uint64_t turn = 0;
    for (const uint64_t delay_us : kDelaysUs) {
      std::vector<uint64_t> late;
      std::vector<uint64_t> busy;
      for (int i = 0; i < 21; ++i) {
        ++turn;
        // Spread around the delay, lest all answers come at the same place between two looks.
        const auto delay_ns = delay_us * 1000 * (30 + static_cast<uint64_t>(i)) / 40;
        uint64_t answered_at = 0;
        std::thread device([&] {
          const uint64_t start = now_ns();
          if (delay_ns > 1'000'000) {
            const timespec most{.tv_sec = 0, .tv_nsec = static_cast<long>(delay_ns - 500'000)};
            ::nanosleep(&most, nullptr);
          }
          while (now_ns() - start < delay_ns) ring::cpu_relax();
          answered_at = now_ns();
          ring::store_release(word, turn);
        });
        const uint64_t start = thread_ns();
        guest.wait(
            ring::GuestWait::kCompleted, word, [turn](uint64_t value) { return value >= turn; },
            10'000'000'000);
        const uint64_t seen_at = now_ns();
        busy.push_back(thread_ns() - start);
        device.join();
        late.push_back(seen_at > answered_at ? seen_at - answered_at : 0);
      }
      out << " after_us " << delay_us << " late_ns " << median(late) << " busy_ns " << median(busy);
    }
  }

  CUmodule module_ = nullptr;
  CUfunction add_one_ = nullptr;
  CUfunction spin_ = nullptr;
};

}  // namespace
}  // namespace vgpu::system_tests

int main() {
  vgpu::system_tests::Client client;
  std::string line;
  while (std::getline(std::cin, line)) {
    vgpu::system_tests::say(client.answer(line));
  }
  return 0;
}
