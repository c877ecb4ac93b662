// The cache of compiled kernels among processes that store, read, trim and die at the same time.
#include "device/software/jit/disk_cache.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <thread>

#include "device/software/jit/jit.h"

namespace vgpu::software::jit {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kRoomy = std::uint64_t{1} << 30;

// What key `n` holds: it can be checked without having been kept.
std::string content_of(int n, std::size_t bytes) {
  std::string content;
  const std::string word = "kernel " + std::to_string(n) + ".";
  while (content.size() < bytes) content += content.empty() ? word : content;
  content.resize(bytes);
  return content;
}

std::string key_of(int n) {
  return "key" + std::to_string(n);
}

// A process that runs `body` and ends with its result.
class Child {
 public:
  explicit Child(const std::function<int()>& body) : pid_(::fork()) {
    if (pid_ == 0) ::_exit(body());
  }
  ~Child() {
    if (pid_ > 0) kill_and_wait();
  }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  void kill_and_wait() {
    ::kill(pid_, SIGKILL);
    wait();
  }
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  pid_t pid_;
};

class DiskCacheTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (fs::temp_directory_path() / "vgpu-cache-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    directory_ = pattern;
  }
  void TearDown() override { fs::remove_all(directory_); }

  [[nodiscard]] fs::path path_of(const std::string& key) const { return directory_ / (key + ".o"); }
  [[nodiscard]] std::size_t temporary_files() const {
    std::size_t count = 0;
    for (const auto& item : fs::directory_iterator(directory_)) {
      count += item.path().filename().string().starts_with(".tmp-") ? 1U : 0U;
    }
    return count;
  }
  [[nodiscard]] std::uint64_t bytes_of_entries() const {
    std::uint64_t total = 0;
    for (const auto& item : fs::directory_iterator(directory_)) {
      std::error_code gone;
      const auto bytes = item.file_size(gone);
      if (!gone && item.path().extension() == ".o") total += bytes;
    }
    return total;
  }
  bool wait_for(const std::function<bool()>& condition) const {
    const auto end = Clock::now() + std::chrono::seconds(20);
    while (Clock::now() < end) {
      if (condition()) return true;
      std::this_thread::yield();
    }
    return false;
  }

  fs::path directory_;
};

TEST_F(DiskCacheTest, GivesBackWhatWasStored) {
  DiskCache(directory_, kRoomy).store("a", "object");
  EXPECT_EQ(DiskCache(directory_, kRoomy).load("a"), "object");
  EXPECT_FALSE(DiskCache(directory_, kRoomy).load("b").has_value());
}

TEST_F(DiskCacheTest, HoldsNothingWithoutADirectoryOrBytes) {
  DiskCache none({}, kRoomy);
  none.store("a", "object");
  EXPECT_FALSE(none.load("a").has_value());
  DiskCache empty(directory_, 0);
  empty.store("a", "object");
  EXPECT_FALSE(empty.load("a").has_value());
  EXPECT_TRUE(fs::is_empty(directory_));
}

TEST_F(DiskCacheTest, DamagedEntryIsAMissAndGoesAway) {
  DiskCache cache(directory_, kRoomy);
  for (const std::size_t at : {0U, 20U, 80U, 999U}) {
    cache.store("a", content_of(1, 1000));
    std::fstream file(path_of("a"), std::ios::in | std::ios::out | std::ios::binary);
    file.seekg(static_cast<std::streamoff>(at));
    const char other = static_cast<char>(file.get() ^ 1);
    file.seekp(static_cast<std::streamoff>(at));
    file.put(other);
    file.close();
    EXPECT_FALSE(cache.load("a").has_value()) << "byte " << at;
    EXPECT_FALSE(fs::exists(path_of("a"))) << "byte " << at;
  }
}

TEST_F(DiskCacheTest, TruncatedEntryIsAMissAndGoesAway) {
  DiskCache cache(directory_, kRoomy);
  for (const std::uintmax_t bytes : {0U, 10U, 77U, 78U, 500U}) {
    cache.store("a", content_of(1, 1000));
    fs::resize_file(path_of("a"), bytes);
    EXPECT_FALSE(cache.load("a").has_value()) << bytes << " bytes";
    EXPECT_FALSE(fs::exists(path_of("a"))) << bytes << " bytes";
  }
}

TEST_F(DiskCacheTest, EntryOfAnotherKeyIsAMiss) {
  DiskCache cache(directory_, kRoomy);
  cache.store("a", "object");
  fs::rename(path_of("a"), path_of("b"));
  EXPECT_FALSE(cache.load("b").has_value());
}

TEST_F(DiskCacheTest, WhatIsNoRegularFileIsAMiss) {
  DiskCache cache(directory_, kRoomy);
  fs::create_directory(path_of("folder"));
  EXPECT_FALSE(cache.load("folder").has_value());
  cache.store("target", "object");
  fs::create_symlink(path_of("target"), path_of("link"));
  EXPECT_FALSE(cache.load("link").has_value());
}

TEST_F(DiskCacheTest, EntriesUsedLongestAgoGoFirst) {
  constexpr std::size_t kBytes = 1000;
  const auto now = fs::file_time_type::clock::now();
  {
    DiskCache cache(directory_, kRoomy);
    for (int i = 0; i < 10; ++i) {
      cache.store(key_of(i), content_of(i, kBytes));
      fs::last_write_time(path_of(key_of(i)), now - std::chrono::hours(20 - i));
    }
  }
  DiskCache cache(directory_, 6000);
  EXPECT_TRUE(cache.load("key0").has_value());  // the oldest was just used
  cache.store("new", content_of(99, kBytes));
  EXPECT_TRUE(cache.load("key0").has_value());
  EXPECT_FALSE(cache.load("key1").has_value());
  EXPECT_FALSE(cache.load("key2").has_value());
  EXPECT_TRUE(cache.load("key9").has_value());
  EXPECT_TRUE(cache.load("new").has_value());
  EXPECT_LE(bytes_of_entries(), 6000U);
}

TEST_F(DiskCacheTest, StaysInItsLimitWhileSeveralProcessesStore) {
  constexpr std::uint64_t kLimit = 512 * 1024;
  const auto fill = [&](int first) {
    return [this, first] {
      DiskCache cache(directory_, kLimit);
      for (int i = first; i < first + 100; ++i) cache.store(key_of(i), content_of(i, 10000));
      return 0;
    };
  };
  Child one(fill(0));
  Child two(fill(1000));
  Child three(fill(2000));
  for (Child* child : {&one, &two, &three}) EXPECT_EQ(child->wait(), 0);
  EXPECT_LE(bytes_of_entries(), kLimit);
  EXPECT_GT(bytes_of_entries(), kLimit / 2);
}

TEST_F(DiskCacheTest, LargerThanTheLimitIsNotStored) {
  DiskCache cache(directory_, 10000);
  cache.store("small", content_of(1, 1000));
  cache.store("large", content_of(2, 20000));
  EXPECT_TRUE(cache.load("small").has_value());
  EXPECT_FALSE(cache.load("large").has_value());
}

TEST_F(DiskCacheTest, ProcessesKilledWhileWritingLeaveNothingWrongBehind) {
  constexpr std::size_t kBytes = 4 << 20;  // long enough to be killed in between
  for (int round = 0; round < 5; ++round) {
    Child writer([&] {
      DiskCache cache(directory_, kRoomy);
      for (int i = 0;; i = (i + 1) % 4) cache.store(key_of(i), content_of(i, kBytes));
      return 0;
    });
    ASSERT_TRUE(wait_for([&] { return temporary_files() > 0; }));
    writer.kill_and_wait();
    const DiskCache reader(directory_, kRoomy);
    for (int i = 0; i < 4; ++i) {
      if (const auto found = reader.load(key_of(i))) {
        EXPECT_EQ(*found, content_of(i, kBytes));
      }
    }
  }
  DiskCache cache(directory_, kRoomy);
  cache.store("after", "object");
  EXPECT_EQ(temporary_files(), 0U);
  EXPECT_EQ(cache.load("after"), "object");
}

TEST_F(DiskCacheTest, TemporaryFilesOfLivingWritersStay) {
  const fs::path living = directory_ / ".tmp-living";
  const fs::path dead = directory_ / ".tmp-dead";
  std::ofstream(dead) << "half an ent";
  const int file = ::open(living.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
  ASSERT_GE(file, 0);
  ASSERT_EQ(::flock(file, LOCK_EX), 0);
  DiskCache(directory_, kRoomy).store("a", "object");
  EXPECT_TRUE(fs::exists(living));
  EXPECT_FALSE(fs::exists(dead));
  ::close(file);
}

TEST_F(DiskCacheTest, SeveralWritersOfOneKeyGiveOneOfTheirEntries) {
  constexpr std::size_t kBytes = 100000;
  const std::string contents[] = {content_of(1, kBytes), content_of(2, kBytes), content_of(3, kBytes)};
  const auto write = [&](std::size_t n) {
    return [this, n, &contents] {
      DiskCache cache(directory_, kRoomy);
      for (int i = 0; i < 40; ++i) cache.store("one", contents[n]);
      return 0;
    };
  };
  Child a(write(0));
  Child b(write(1));
  Child c(write(2));
  const DiskCache reader(directory_, kRoomy);
  ASSERT_TRUE(wait_for([&] { return reader.load("one").has_value(); }));
  for (int i = 0; i < 60; ++i) {
    const auto found = reader.load("one");
    ASSERT_TRUE(found.has_value()) << "an entry is replaced, never absent";
    EXPECT_TRUE(std::ranges::find(contents, *found) != std::end(contents));
  }
  for (Child* child : {&a, &b, &c}) EXPECT_EQ(child->wait(), 0);
  EXPECT_EQ(temporary_files(), 0U);
}

TEST_F(DiskCacheTest, ReadersSeeWholeEntriesWhileAnotherProcessTrims) {
  constexpr std::size_t kBytes = 40000;
  constexpr int kKeys = 40;
  Child reader([&] {
    const DiskCache cache(directory_, kRoomy);
    int hits = 0;
    const auto end = Clock::now() + std::chrono::seconds(20);
    for (int i = 0; hits < 200 && Clock::now() < end; i = (i + 1) % kKeys) {
      const auto found = cache.load(key_of(i));
      if (!found) continue;
      if (*found != content_of(i, kBytes)) return 1;
      ++hits;
    }
    return hits < 200 ? 2 : 0;
  });
  Child writer([&] {
    DiskCache cache(directory_, 10 * kBytes);  // a quarter of the keys
    for (int i = 0;; i = (i + 7) % kKeys) cache.store(key_of(i), content_of(i, kBytes));
    return 0;
  });
  EXPECT_EQ(reader.wait(), 0) << "1: an entry with wrong bytes, 2: too few entries found";
  writer.kill_and_wait();
  EXPECT_LE(bytes_of_entries(), 10 * kBytes);
}

// What a full disk does: a write that ends early.
TEST_F(DiskCacheTest, WritesThatFailLeaveNothingAndDoNoHarm) {
  Child child([&] {
    ::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{5000, 5000};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    DiskCache cache(directory_, kRoomy);
    cache.store("large", content_of(1, 100000));
    if (cache.load("large").has_value()) return 2;
    cache.store("small", content_of(2, 1000));
    return cache.load("small").has_value() ? 0 : 3;
  });
  EXPECT_EQ(child.wait(), 0);
  EXPECT_EQ(temporary_files(), 0U);
  EXPECT_FALSE(fs::exists(path_of("large")));
}

constexpr const char* kPtx = R"(.version 8.4
.target sm_61
.address_size 64
.visible .entry nothing()
{
  ret;
}
)";

TEST_F(DiskCacheTest, KernelsCompileWhereNothingCanBeStored) {
  const auto module = ptx::Module::parse(kPtx, "disk_cache_test.ptx");
  ASSERT_TRUE(module.has_value());
  std::ofstream(directory_ / "file") << "not a directory";
  for (const fs::path& place :
       {fs::path("/proc/self/no-such-place"), directory_ / "file", directory_ / "file/below"}) {
    Options options;
    options.cache_directory = place;
    Jit jit(options);
    EXPECT_TRUE(jit.compile(*module, "nothing", {}).has_value()) << place;
    EXPECT_EQ(jit.counters().failures, 0U);
  }
}

}  // namespace
}  // namespace vgpu::software::jit
