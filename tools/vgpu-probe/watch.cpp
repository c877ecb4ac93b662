// vgpu-probe watch: devices and channels as they work, with rates.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <nlohmann/json.hpp>

#include "tools/vgpu-probe/answer.h"
#include "tools/vgpu-probe/live_view.h"
#include "tools/vgpu-probe/probe.h"
#include "tools/vgpu-probe/screen.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {
namespace {

constexpr uint64_t kShortestInterval = 100'000'000;
constexpr uint64_t kLongestInterval = 60'000'000'000;

// The keys' effect on the view; false: the end.
bool obey(char key, ViewOptions& view, uint64_t& interval) {
  switch (key) {
    case 'q':
    case 'Q':
    case '\x1b':
      return false;
    case ' ':
    case 'p':
      view.paused = !view.paused;
      break;
    case 'i':
      view.idle_channels = !view.idle_channels;
      break;
    case 'h':
    case '?':
      view.help = !view.help;
      break;
    case '+':
      interval = std::max(interval / 2, kShortestInterval);
      break;
    case '-':
      interval = std::min(interval * 2, kLongestInterval);
      break;
    case Screen::kUp:
    case 'k':
      view.first_line -= std::min<std::size_t>(view.first_line, 1);
      break;
    case Screen::kDown:
    case 'j':
      view.first_line += 1;
      break;
    case Screen::kPageUp:
      view.first_line -= std::min<std::size_t>(view.first_line, 10);
      break;
    case Screen::kPageDown:
      view.first_line += 10;
      break;
    default:
      break;
  }
  return true;
}

int run_live(LiveView& live, uint64_t interval, uint64_t count) {
  Screen screen(true);
  ViewOptions view;
  uint64_t looks = 0;
  live.look();
  screen.draw(live.page(view, interval, screen.rows()));
  for (;;) {
    switch (screen.wait(interval)) {
      case Screen::Event::kEnd:
        return screen.end_signal() == 0 ? 0 : 128 + screen.end_signal();
      case Screen::Event::kKey:
        if (!obey(screen.key(), view, interval)) return 0;
        break;
      case Screen::Event::kResized:
        break;
      case Screen::Event::kTimeout:
        if (!view.paused) {
          live.look();
          if (++looks == count) return 0;
        }
        break;
    }
    screen.draw(live.page(view, interval, screen.rows()));
  }
}

int run_lines(LiveView& live, uint64_t interval, uint64_t count, bool json) {
  constexpr uint64_t kHeadingEvery = 20;
  Screen screen(false);
  live.look();
  for (uint64_t looks = 0; looks != count; ++looks) {
    if (screen.wait(interval) == Screen::Event::kEnd) return 128 + screen.end_signal();
    live.look();
    if (json) {
      fmt::print("{}\n", live.json().dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
    } else {
      if (looks % kHeadingEvery == 0) fmt::print("{}\n", LiveView::line_heading());
      for (const auto& line : live.lines()) fmt::print("{}\n", line);
    }
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

int watch_devices(const Request& request, double interval_seconds, uint64_t count) {
  if (!request.device.empty()) {
    const auto place = choose_place(request.device, request.guests_directory, Use::kLook);
    if (!place) return answer_failure(place.error(), request.json);
  } else if (all_places(request.guests_directory).empty() && !terminal_has_a_cursor()) {
    const auto chosen = choose_place({}, request.guests_directory, Use::kLook);
    if (!chosen) return answer_failure(chosen.error(), request.json);
  }
  LiveView live(request);
  const auto interval = static_cast<uint64_t>(interval_seconds * 1e9);
  const bool interactive = !request.json && terminal_has_a_cursor() && ::isatty(STDIN_FILENO) == 1;
  return interactive ? run_live(live, interval, count) : run_lines(live, interval, count, request.json);
}

}  // namespace vgpu::tools
