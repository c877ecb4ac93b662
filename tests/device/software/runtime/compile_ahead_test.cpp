// Kernels of launches to come are compiled by other threads while the first one is: each once, and what goes
// wrong with one is told at its own launch.
#include <gtest/gtest.h>

#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"

namespace vgpu::software {
namespace {

using namespace std::chrono_literals;

// Kernels a to f, which each store their letter, and one that recurses, which is refused.
std::string six_kernels() {
  std::string text = ".version 8.4\n.target sm_61\n.address_size 64\n";
  for (const char* name : {"a", "b", "c", "d", "e", "f"}) {
    text +=
        std::string(".visible .entry ") + name +
        "(.param .u64 out)\n{\n .reg .b64 %q0;\n .reg .b32 %r0;\n ld.param.u64 %q0, [out];\n mov.u32 %r0, " +
        std::to_string(name[0]) + ";\n st.global.u32 [%q0], %r0;\n ret;\n}\n";
  }
  return text +
         ".func again()\n{\n call again, ();\n ret;\n}\n"
         ".visible .entry bad(.param .u64 out)\n{\n call again, ();\n ret;\n}\n";
}

// Tells what is compiled by whom, and keeps a kernel back until another one is done.
class Watched final : public KernelCompiler {
 public:
  Outcome compile(const ptx::Module& module, std::string_view kernel,
                  const jit::LaunchShape& shape) override {
    const std::string name(kernel);
    {
      std::unique_lock lock(mutex_);
      begun_[name].push_back(std::this_thread::get_id());
      changed_.notify_all();
      const auto wanted = after_.find(name);
      if (wanted != after_.end())
        changed_.wait_for(lock, 20s, [&] { return done_.contains(wanted->second); });
    }
    auto outcome = jit_->compile(module, kernel, shape);
    const std::lock_guard lock(mutex_);
    ++done_[name];
    changed_.notify_all();
    return outcome;
  }
  [[nodiscard]] jit::Counters counters() const override { return jit_->counters(); }

  void keep_back(const std::string& kernel, const std::string& until) { after_[kernel] = until; }
  std::vector<std::thread::id> compiled_by(const std::string& kernel) {
    const std::lock_guard lock(mutex_);
    return begun_[kernel];
  }
  bool wait_until_begun(const std::string& kernel) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, 20s, [&] { return begun_.contains(kernel); });
  }
  void say_done(const std::string& kernel) {
    const std::lock_guard lock(mutex_);
    ++done_[kernel];
    changed_.notify_all();
  }
  // Whether nothing is being compiled.
  bool at_rest() {
    const std::lock_guard lock(mutex_);
    std::size_t begun = 0;
    for (const auto& [name, threads] : begun_) begun += threads.size();
    std::size_t done = 0;
    for (const auto& [name, count] : done_) done += count;
    return begun == done - said_;
  }
  std::size_t said_ = 0;  // by say_done()

 private:
  std::unique_ptr<KernelCompiler> jit_ = make_jit_compiler({.verify = true});
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> after_;
  std::map<std::string, std::vector<std::thread::id>> begun_;
  std::map<std::string, std::size_t> done_;
};

class CompileAheadTest : public ::testing::Test {
 protected:
  void start(uint32_t threads) {
    auto compiler = std::make_unique<Watched>();
    compiler_ = compiler.get();
    auto backend = make_backend({.memory_bytes = uint64_t{1} << 26, .threads = threads}, std::move(compiler));
    ASSERT_TRUE(backend) << backend.error().reason;
    backend_ = std::move(*backend);
    context_ = std::move(*backend_->create_context({}));
    const std::string text = six_kernels();
    const auto bytes = std::as_bytes(std::span(text));
    ASSERT_TRUE(context_->load_module(1, {bytes.begin(), bytes.end()}));
    for (const char* name : {"a", "b", "c", "d", "e", "f", "bad"})
      ASSERT_TRUE(context_->get_function(1, handle(name), name));
    out_ = *context_->allocate(256);
    context_->set_upcoming([this](const device::OnUpcomingLaunch& on_launch) {
      ++asked_;
      for (const auto& [request, parameters] : upcoming_) {
        if (!on_launch(request, parameters)) return;
      }
    });
  }

  static uint32_t handle(const std::string& name) { return name == "bad" ? 1 : uint32_t(name[0]); }
  static protocol::LaunchRequest request(uint32_t function, uint16_t threads = 32) {
    return {.function = function,
            .grid_x = 1,
            .grid_y = 1,
            .grid_z = 1,
            .block_x = threads,
            .block_y = 1,
            .block_z = 1,
            .flags = 0,
            .shared_bytes = 0};
  }
  std::vector<std::byte> parameters() const {
    std::vector<std::byte> bytes(8);
    std::memcpy(bytes.data(), &out_, 8);
    return bytes;
  }
  void expect(const std::string& name) { upcoming_.emplace_back(request(handle(name)), parameters()); }
  device::Result<void> launch(const std::string& name) {
    return context_->launch(0, request(handle(name)), parameters());
  }
  // What the kernel stored.
  uint32_t outcome(const std::string& name) {
    const auto launched = launch(name);
    EXPECT_TRUE(launched) << launched.error().reason;
    uint32_t word = 0;
    EXPECT_TRUE(context_->copy_from_device(std::as_writable_bytes(std::span(&word, 1)), 0, out_, 0,
                                           {.width = 4, .height = 1}));
    return word;
  }

  Watched* compiler_ = nullptr;
  std::unique_ptr<device::Backend> backend_;
  std::unique_ptr<device::Context> context_;
  uint64_t out_ = 0;
  std::vector<std::pair<protocol::LaunchRequest, std::vector<std::byte>>> upcoming_;
  int asked_ = 0;
};

TEST_F(CompileAheadTest, OthersCompileWhatIsToComeAndEachOnce) {
  start(2);
  compiler_->keep_back("a", "b");  // so b is not compiled by the thread that launches a, nor after it
  compiler_->keep_back("c", "a");
  for (const char* name : {"b", "a", "c", "b"}) expect(name);
  EXPECT_EQ(outcome("a"), uint32_t{'a'});
  for (const char* name : {"b", "c", "a", "b", "c"}) EXPECT_EQ(outcome(name), static_cast<uint32_t>(name[0]));
  for (const char* name : {"a", "b", "c"}) EXPECT_EQ(compiler_->compiled_by(name).size(), 1U) << name;
  EXPECT_NE(compiler_->compiled_by("b")[0], std::this_thread::get_id());
  EXPECT_EQ(backend_->counts().kernels_compiled, 3U);
  EXPECT_GE(asked_, 1);
}

// Another shape is another piece of code, and what makes no launch is passed over.
TEST_F(CompileAheadTest, OnlyLaunchesThatCanBeAreLookedAt) {
  start(2);
  compiler_->keep_back("a", "c");
  upcoming_.emplace_back(request(4711), parameters());
  upcoming_.emplace_back(request(handle("b"), 0), parameters());
  upcoming_.emplace_back(request(handle("b"), 2000), parameters());
  upcoming_.emplace_back(request(handle("b")), std::vector<std::byte>(3));
  upcoming_.emplace_back(request(handle("c"), 64), parameters());
  expect("c");
  EXPECT_EQ(outcome("a"), uint32_t{'a'});
  EXPECT_TRUE(compiler_->compiled_by("b").empty());
  EXPECT_EQ(outcome("c"), uint32_t{'c'});
  EXPECT_EQ(compiler_->compiled_by("c").size(), 2U);
}

TEST_F(CompileAheadTest, AFaultIsToldAtItsOwnLaunch) {
  start(2);
  compiler_->keep_back("a", "bad");
  for (const char* name : {"bad", "b"}) expect(name);
  EXPECT_EQ(outcome("a"), uint32_t{'a'});
  const auto refused = launch("bad");
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().reason.find("bad"), std::string::npos) << refused.error().reason;
  EXPECT_EQ(outcome("b"), uint32_t{'b'});
}

// It waits for what is being compiled; a module that goes meanwhile is kept for as long.
TEST_F(CompileAheadTest, TheContextMayEndMeanwhile) {
  start(2);
  for (const char* name : {"b", "c", "d", "e", "f"}) {
    compiler_->keep_back(name, "the end");
    expect(name);
  }
  compiler_->said_ = 1;
  EXPECT_EQ(outcome("a"), uint32_t{'a'});
  ASSERT_TRUE(compiler_->wait_until_begun("b"));
  ASSERT_TRUE(context_->unload_module(1));
  std::jthread ends([this] {
    std::this_thread::sleep_for(50ms);
    compiler_->say_done("the end");
  });
  context_.reset();
  EXPECT_TRUE(compiler_->at_rest());
}

TEST_F(CompileAheadTest, ADeviceOfOneThreadDoesNotAsk) {
  start(1);
  expect("b");
  EXPECT_EQ(outcome("a"), uint32_t{'a'});
  EXPECT_EQ(asked_, 0);
  EXPECT_EQ(backend_->counts().kernels_compiled, 1U);
}

}  // namespace
}  // namespace vgpu::software
