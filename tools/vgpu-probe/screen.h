// The terminal as a page that is drawn again and again, and given back as it was whatever happens: at the
// end, on signals, on a crash, and while the process is stopped.
#pragma once

#include <termios.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "ring/unique_fd.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {

struct Line {
  std::string text;
  Tone tone = Tone::kPlain;
};

// One per process, one thread. Signals that end or stop a program, and SIGWINCH, come as events.
class Screen {
 public:
  // Takes the terminal when `interactive`; else only the signals.
  explicit Screen(bool interactive);
  ~Screen();
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;

  enum class Event : uint8_t { kTimeout, kKey, kResized, kEnd };
  // Waits for one of them; key() then tells the key. A stop (Ctrl-Z) is dealt with inside.
  Event wait(uint64_t timeout_ns);
  enum Key : char { kUp = 1, kDown = 2, kPageUp = 3, kPageDown = 4, kNone = 0 };
  char key() const noexcept { return key_; }               // a character, or one of Key
  int end_signal() const noexcept { return end_signal_; }  // that caused kEnd; 0: the terminal is gone

  std::size_t rows() const noexcept;
  // Draws these lines, cut to the terminal's size.
  void draw(const std::vector<Line>& lines);

 private:
  void enter();
  void leave();
  Event on_signal();
  Event on_key(bool hung_up);

  bool interactive_;
  bool entered_ = false;
  char key_ = kNone;
  int end_signal_ = 0;
  ring::UniqueFd signals_;
};

}  // namespace vgpu::tools
