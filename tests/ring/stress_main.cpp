// ring_stress: sends numbered, checked records through a ring for as long as one likes, between two processes
// over a shared file, or between threads (which is what the thread sanitizer can see).
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include "ring/unique_fd.h"
#include "ring/wait.h"
#include "tests/ring/stress.h"

namespace vgpu::ring::stress {
namespace {

std::span<std::byte> map(int fd) {
  void* data = ::mmap(nullptr, kChannelBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (data == MAP_FAILED) {
    std::perror("ring_stress: mmap");
    std::exit(2);
  }
  return {static_cast<std::byte*>(data), kChannelBytes};
}

void say(const char* side, const std::string& problem) {
  if (!problem.empty()) {
    std::fprintf(stderr, "ring_stress: %s: %s\n", side, problem.c_str());
  }
}

int run(const Options& options, bool threads) {
  if (options.fences == Fences::kSleeper && !register_for_remote_fences()) {
    std::fputs("ring_stress: this kernel has no expedited membarrier: --both-fence\n", stderr);
    return 2;
  }
  const UniqueFd file(::memfd_create("ring_stress", MFD_CLOEXEC));
  if (!file || ::ftruncate(file.get(), kChannelBytes) != 0) {
    std::perror("ring_stress: memfd_create");
    return 2;
  }
  const ChannelView channel = channel_in(map(file.get()));
  set_start(channel, options.start);
  Figures sent;
  std::string problem;
  bool device_failed = false;
  const uint64_t start = monotonic_ns();
  if (threads) {
    std::string device_problem;
    Figures received;
    std::thread device([&] { device_problem = run_device(channel, options, received); });
    problem = run_guest(channel, options, sent);
    device.join();
    say("device", device_problem);
    device_failed = !device_problem.empty() || (problem.empty() && received.bytes != sent.bytes);
  } else {
    const pid_t device = ::fork();
    if (device < 0) {
      std::perror("ring_stress: fork");
      return 2;
    }
    if (device == 0) {
      // A mapping of its own, at an address of its own.
      Figures received;
      if (options.fences == Fences::kSleeper && !register_for_remote_fences()) {
        ::_exit(2);
      }
      const std::string device_problem = run_device(channel_in(map(file.get())), options, received);
      say("device", device_problem);
      ::_exit(device_problem.empty() ? 0 : 1);
    }
    problem = run_guest(channel, options, sent);
    int status = 0;
    device_failed = ::waitpid(device, &status, 0) != device || status != 0;
  }
  const double seconds = static_cast<double>(monotonic_ns() - start) / 1e9;
  say("guest", problem);
  const bool failed = device_failed || !problem.empty();
  std::printf(
      "%s: %llu records, %llu bytes in %.1f s (%.2f million a second), seed %llu, positions %llu..%llu: "
      "%llu replies, %llu times full, the device slept %llu times, the guest %llu times\n",
      failed ? "FAILED" : "passed", static_cast<unsigned long long>(sent.records),
      static_cast<unsigned long long>(sent.bytes), seconds, static_cast<double>(sent.records) / seconds / 1e6,
      static_cast<unsigned long long>(options.seed), static_cast<unsigned long long>(options.start),
      static_cast<unsigned long long>(channel.control->producer.published),
      static_cast<unsigned long long>(sent.replies), static_cast<unsigned long long>(sent.full_waits),
      static_cast<unsigned long long>(channel.control->park.parks),
      static_cast<unsigned long long>(channel.control->producer.guest_parks));
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace vgpu::ring::stress

int main(int argc, char** argv) {
  using namespace vgpu::ring;
  stress::Options options;
  bool threads = false;
  bool wrap = false;
  bool both_fence = false;
  CLI::App app("Sends numbered, checked records through a ring");
  app.add_option("--records", options.records, "how many")->capture_default_str();
  app.add_option("--seconds", options.seconds, "stop after them; 0: when the records are through")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "everything random follows from it")->capture_default_str();
  app.add_option("--guest-threads", options.guest_threads, "threads that send")
      ->check(CLI::Range(1u, stress::kReplyCount))
      ->capture_default_str();
  app.add_option("--spin-ns", options.spin_ns, "how long a side spins before it sleeps")
      ->capture_default_str();
  app.add_flag("--threads", threads, "both sides in one process");
  app.add_flag("--both-fence", both_fence,
               "a full fence on both sides, instead of the sleeper's remote fence");
  app.add_flag("--wrap", wrap,
               "start a little before the sequence number wraps, at a place drawn from the seed");
  CLI11_PARSE(app, argc, argv);
  options.fences = both_fence ? Fences::kBoth : Fences::kSleeper;
  if (wrap) {
    const uint64_t before =
        (options.seed * 0x9e37'79b9'7f4a'7c15 >> 32) % (16 * stress::kRingBytes / kSlotBytes);
    options.start = ((uint64_t{1} << 32) - 1 - before) * kSlotBytes;
  }
  return stress::run(options, threads);
}
