// Taking the terminal and giving it back.
#include "tools/vgpu-probe/screen.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

#include "ring/wait.h"

namespace vgpu::tools {
namespace {

// Another page, no cursor; and back.
constexpr std::string_view kEnter = "\x1b[?1049h\x1b[?25l\x1b[2J";
constexpr std::string_view kLeave = "\x1b[0m\x1b[?25h\x1b[?1049l";
constexpr std::array kCrashes = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL};

// For the handler of crashes, which has nothing else.
termios saved_settings;
volatile sig_atomic_t screen_is_ours = 0;

void write_all(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno != EINTR && errno != EAGAIN) return;
    if (written > 0) text.remove_prefix(static_cast<std::size_t>(written));
  }
}

void on_crash(int signal) {
  if (screen_is_ours != 0) {
    write_all(kLeave);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &saved_settings);
  }
  // The handler is gone by now (SA_RESETHAND): the default action follows.
  ::raise(signal);
}

sigset_t awaited_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH, SIGTSTP}) ::sigaddset(&set, signal);
  return set;
}

}  // namespace

Screen::Screen(bool interactive) : interactive_(interactive) {
  const sigset_t set = awaited_signals();
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  signals_.reset(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!interactive_) return;
  struct sigaction action{};
  action.sa_handler = on_crash;
  action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
  for (const int signal : kCrashes) ::sigaction(signal, &action, nullptr);
  enter();
}

Screen::~Screen() {
  leave();
  const sigset_t set = awaited_signals();
  ::sigprocmask(SIG_UNBLOCK, &set, nullptr);
}

void Screen::enter() {
  if (!interactive_ || entered_ || ::tcgetattr(STDIN_FILENO, &saved_settings) != 0) return;
  termios settings = saved_settings;
  // Keys come at once and unseen; Ctrl-C and Ctrl-Z stay signals.
  settings.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  settings.c_cc[VMIN] = 0;
  settings.c_cc[VTIME] = 0;
  entered_ = true;
  screen_is_ours = 1;
  ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &settings);
  write_all(kEnter);
}

void Screen::leave() {
  if (!entered_) return;
  write_all(kLeave);
  ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &saved_settings);
  screen_is_ours = 0;
  entered_ = false;
}

Screen::Event Screen::wait(uint64_t timeout_ns) {
  const uint64_t end = ring::monotonic_ns() + timeout_ns;
  for (;;) {
    const uint64_t now = ring::monotonic_ns();
    const uint64_t left_ms = now >= end ? 0 : (end - now + 999'999) / 1'000'000;
    std::array<pollfd, 2> wait = {{{signals_.get(), POLLIN, 0}, {entered_ ? STDIN_FILENO : -1, POLLIN, 0}}};
    const int ready =
        ::poll(wait.data(), wait.size(), static_cast<int>(std::min<uint64_t>(left_ms, 3'600'000)));
    if (ready == 0) return Event::kTimeout;
    if (ready < 0) continue;
    Event event = Event::kTimeout;
    if (wait[0].revents != 0) {
      event = on_signal();
    } else if (wait[1].revents != 0) {
      event = on_key((wait[1].revents & (POLLHUP | POLLERR)) != 0);
    }
    if (event != Event::kTimeout) return event;
  }
}

Screen::Event Screen::on_signal() {
  signalfd_siginfo info{};
  if (::read(signals_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return Event::kTimeout;
  switch (static_cast<int>(info.ssi_signo)) {
    case SIGWINCH:
      return Event::kResized;
    case SIGTSTP:
      leave();
      ::raise(SIGSTOP);
      // Here again when somebody continued us.
      enter();
      return Event::kResized;
    default:
      end_signal_ = static_cast<int>(info.ssi_signo);
      return Event::kEnd;
  }
}

// Nothing to read is not the end: a signal typed meanwhile throws away what was typed before it.
Screen::Event Screen::on_key(bool hung_up) {
  std::array<char, 16> bytes{};
  const ssize_t got = ::read(STDIN_FILENO, bytes.data(), bytes.size());
  if (got < 0 && errno != EINTR && errno != EAGAIN) return Event::kEnd;
  if (got <= 0) return hung_up ? Event::kEnd : Event::kTimeout;
  const std::string_view keys(bytes.data(), static_cast<std::size_t>(got));
  constexpr std::array<std::pair<std::string_view, Key>, 6> kNamed = {{{"\x1b[A", kUp},
                                                                       {"\x1bOA", kUp},
                                                                       {"\x1b[B", kDown},
                                                                       {"\x1bOB", kDown},
                                                                       {"\x1b[5~", kPageUp},
                                                                       {"\x1b[6~", kPageDown}}};
  key_ = keys.front();
  for (const auto& [sequence, name] : kNamed) {
    if (keys == sequence) key_ = name;
  }
  return Event::kKey;
}

std::size_t Screen::rows() const noexcept {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) return 24;
  return std::max<std::size_t>(size.ws_row, 4);
}

void Screen::draw(const std::vector<Line>& lines) {
  const std::size_t width = terminal_width();
  const std::size_t count = std::min(lines.size(), rows());
  std::string page = "\x1b[H";
  for (std::size_t i = 0; i < count; ++i) {
    if (i != 0) page += "\r\n";
    page += tinted(cut(lines[i].text, width), lines[i].tone) + "\x1b[K";
  }
  page += "\x1b[J";
  write_all(page);
}

}  // namespace vgpu::tools
