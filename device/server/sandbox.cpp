// No new privileges, namespaces, Landlock and seccomp.
#include "device/server/sandbox.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>

#include "device/server/log.h"
#include "ring/unique_fd.h"

namespace vgpu::device {
namespace {

using ring::UniqueFd;

std::unexpected<Error> system_failure(std::string_view what, int error_number) {
  return std::unexpected(
      Error{protocol::Status::kOperatingSystem, fmt::format("{}: {}", what, std::strerror(error_number))});
}

constexpr uint64_t kReadRights = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
constexpr uint64_t kWriteRights = LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_FILE |
                                  LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |
                                  LANDLOCK_ACCESS_FS_MAKE_DIR;
constexpr uint64_t kHandledRights = kReadRights | kWriteRights | LANDLOCK_ACCESS_FS_EXECUTE |
                                    LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_SOCK |
                                    LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |
                                    LANDLOCK_ACCESS_FS_MAKE_SYM;
constexpr uint64_t kFileRights = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE;

// What libraries read of the system: shared objects, how many processors there are, what they can do.
constexpr const char* kReadable[] = {
    "/usr",      "/lib",      "/lib64",      "/etc/ld.so.cache", "/proc", "/sys/devices/system",
    "/dev/null", "/dev/zero", "/dev/urandom"};

// Missing paths are left out: not every system has all of them.
Result<void> allow_path(int ruleset, const std::string& path, uint64_t rights) {
  const UniqueFd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
  if (!fd) {
    if (errno == ENOENT) return {};
    return system_failure(fmt::format("sandbox: opening {}", path), errno);
  }
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0)
    return system_failure(fmt::format("sandbox: looking at {}", path), errno);
  landlock_path_beneath_attr rule{};
  rule.allowed_access = S_ISDIR(status.st_mode) ? rights : rights & kFileRights;
  rule.parent_fd = fd.get();
  if (::syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) != 0) {
    return system_failure(fmt::format("sandbox: allowing {}", path), errno);
  }
  return {};
}

// By name, so that a name this machine's architecture lacks is left out and not an error.
constexpr const char* kAllowed[] = {
    // memory
    "brk", "mmap", "mprotect", "munmap", "mremap", "madvise", "mincore", "msync", "membarrier",
    "memfd_create", "mlock", "munlock", "get_mempolicy",
    // threads and time
    "futex", "futex_waitv", "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "sched_yield",
    "sched_getaffinity", "sched_setaffinity", "sched_getparam", "sched_getscheduler", "getcpu", "gettid",
    "getpid", "getppid", "nanosleep", "clock_nanosleep", "clock_gettime", "clock_getres", "gettimeofday",
    "time", "times", "restart_syscall", "arch_prctl",
    // signals of its own
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "rt_sigpending", "sigaltstack",
    // files (Landlock says which)
    "read", "readv", "pread64", "preadv", "write", "writev", "pwrite64", "pwritev", "close", "lseek", "open",
    "openat", "stat", "fstat", "lstat", "newfstatat", "statx", "statfs", "fstatfs", "access", "faccessat",
    "faccessat2", "readlink", "readlinkat", "getcwd", "getdents64", "mkdir", "mkdirat", "rename", "renameat",
    "renameat2", "unlink", "unlinkat", "rmdir", "ftruncate", "fallocate", "fsync", "fdatasync", "flock",
    "fcntl", "dup", "pipe", "pipe2", "poll", "ppoll", "umask", "fchmod", "utimensat", "copy_file_range",
    "fadvise64",
    // what it is and what it may
    "getuid", "geteuid", "getgid", "getegid", "uname", "sysinfo", "getrusage", "getrlimit", "getrandom",
    // the end
    "exit", "exit_group"};

struct FilterDeleter {
  void operator()(void* filter) const { ::seccomp_release(filter); }
};

}  // namespace

Result<void> drop_privileges(int parent_pid) {
  if (::unshare(CLONE_NEWNET) != 0 && ::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) {
    log_debug("sandbox: no network namespace of its own ({}); seccomp alone keeps the worker off the network",
              std::strerror(errno));
  }
  const rlimit no_core{0, 0};
  ::setrlimit(RLIMIT_CORE, &no_core);
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur > 1024) {
    files.rlim_cur = files.rlim_max = 1024;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  // After unshare, which may clear it.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0)
    return system_failure("prctl(PR_SET_PDEATHSIG)", errno);
  if (::getppid() != parent_pid) {
    return std::unexpected(Error{protocol::Status::kOperatingSystem, "the supervisor is gone already"});
  }
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
    return system_failure("prctl(PR_SET_NO_NEW_PRIVS)", errno);
  return {};
}

void close_descriptors(std::vector<int> keep, bool keep_output) noexcept {
  std::ranges::sort(keep);
  unsigned next = 3;  // everything below is dealt with
  for (const int fd : keep) {
    const auto kept = static_cast<unsigned>(fd);
    if (fd < 0 || kept < next) continue;
    if (kept > next) ::close_range(next, kept - 1, 0);
    next = kept + 1;
  }
  ::close_range(next, ~0U, 0);
  const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null >= 0) {
    ::dup2(null, STDIN_FILENO);
    ::close(null);
  }
  if (!keep_output) ::dup2(STDERR_FILENO, STDOUT_FILENO);
}

Result<bool> confine_files(const SandboxOptions& options) {
  landlock_ruleset_attr attributes{};
  attributes.handled_access_fs = kHandledRights;
  const UniqueFd ruleset(
      static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0)));
  if (!ruleset) {
    if (errno == ENOSYS || errno == EOPNOTSUPP) return false;
    return system_failure("landlock_create_ruleset", errno);
  }
  for (const char* path : kReadable) {
    const uint64_t write =
        std::string_view(path).starts_with("/dev/") ? LANDLOCK_ACCESS_FS_WRITE_FILE : uint64_t{0};
    if (auto allowed = allow_path(ruleset.get(), path, kReadRights | write); !allowed) {
      return std::unexpected(std::move(allowed.error()));
    }
  }
  for (const auto& path : options.writable) {
    if (auto allowed = allow_path(ruleset.get(), path, kReadRights | kWriteRights); !allowed) {
      return std::unexpected(std::move(allowed.error()));
    }
  }
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) {
    return system_failure("landlock_restrict_self", errno);
  }
  return true;
}

Result<void> confine_system_calls() {
  const std::unique_ptr<void, FilterDeleter> filter(::seccomp_init(SCMP_ACT_ERRNO(EPERM)));
  if (!filter) return system_failure("seccomp_init", ENOMEM);
  int error = ::seccomp_attr_set(filter.get(), SCMP_FLTATR_CTL_TSYNC, 1);
  const auto add = [&](uint32_t action, int call, std::initializer_list<scmp_arg_cmp> arguments) {
    if (error == 0 && call != __NR_SCMP_ERROR) {
      error = ::seccomp_rule_add_array(filter.get(), action, call, static_cast<unsigned>(arguments.size()),
                                       arguments.begin());
    }
  };
  // libseccomp's own macros for this are C alone.
  const auto is = [](unsigned argument, scmp_datum_t value) {
    return scmp_arg_cmp{argument, SCMP_CMP_EQ, value, 0};
  };
  for (const char* name : kAllowed) add(SCMP_ACT_ALLOW, ::seccomp_syscall_resolve_name(name), {});
  // Threads, but no processes. clone3 hides its flags in memory; glibc falls back to clone without it.
  add(SCMP_ACT_ALLOW, SCMP_SYS(clone), {{0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD}});
  add(SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), {});
  // Signals to itself: abort().
  add(SCMP_ACT_ALLOW, SCMP_SYS(tgkill), {is(0, static_cast<scmp_datum_t>(::getpid()))});
  add(SCMP_ACT_ALLOW, SCMP_SYS(ioctl), {is(1, TCGETS)});
  add(SCMP_ACT_ALLOW, SCMP_SYS(prctl), {is(0, PR_SET_NAME)});
  add(SCMP_ACT_ALLOW, SCMP_SYS(prctl), {is(0, PR_GET_NAME)});
  add(SCMP_ACT_ALLOW, SCMP_SYS(prctl), {is(0, PR_SET_VMA)});
  // Its own limits, to be read.
  add(SCMP_ACT_ALLOW, SCMP_SYS(prlimit64), {is(0, 0), is(2, 0)});
  if (error == 0) error = ::seccomp_load(filter.get());
  if (error != 0) return system_failure("loading the seccomp filter", -error);
  return {};
}

}  // namespace vgpu::device
