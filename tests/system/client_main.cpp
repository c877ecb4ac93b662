// Client programs of the system tests, by name. Exit status 0 when CUDA answered as it documents.
#include "tests/system/client.h"

namespace vgpu::system_tests {

void works() {
  constexpr uint32_t kCount = 1024;
  static CUfunction add_one = nullptr;
  if (add_one == nullptr) add_one = function("add_one");
  std::vector<uint32_t> words(kCount);
  for (uint32_t i = 0; i < kCount; ++i) words[i] = i * 7;
  CUdeviceptr memory = allocate(kCount * 4);
  MUST(cuMemcpyHtoD_v2(memory, words.data(), kCount * 4));
  MUST(launch(add_one, {&memory}, 128, 0, kCount / 128));
  MUST(cuMemcpyDtoH_v2(words.data(), memory, kCount * 4));
  for (uint32_t i = 0; i < kCount; ++i) MUST_BE(words[i] == i * 7 + 1);
  MUST(cuMemFree_v2(memory));
}

namespace {

// Uses the device all the time; for every byte from the test it does so once more from the start and says
// "fine".
int bystander() {
  start();
  works();
  say("fine");
  while (wait_for_test()) {
    for (int i = 0; i < 20; ++i) works();
    say("fine");
  }
  return 0;
}

// cuInit's answer.
int init() {
  say(std::to_string(static_cast<int>(cuInit(0))));
  return 0;
}

}  // namespace
}  // namespace vgpu::system_tests

int main(int argc, char** argv) {
  using namespace vgpu::system_tests;
  const std::string kind = argc > 1 ? argv[1] : "";
  const std::string what = argc > 2 ? argv[2] : "";
  if (kind == "bystander") return bystander();
  if (kind == "init") return init();
  if (kind == "bad") return bad_input(what);
  if (kind == "victim") return victim(what);
  return 2;
}
