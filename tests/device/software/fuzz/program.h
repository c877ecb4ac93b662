// A generated module as a tree of statements, so that a failing one can be cut down: any statement that is
// not `needed` may be left out without making the rest invalid or its results undefined.
#pragma once

#include <cstddef>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace vgpu::testing::fuzz {

// Text is: head, body, middle, otherwise, tail.
struct Statement {
  std::vector<std::string> head;
  std::vector<Statement> body;
  std::vector<std::string> middle;
  std::vector<Statement> otherwise;
  std::vector<std::string> tail;
  bool needed = false;
  bool dropped = false;

  Statement() = default;
  explicit Statement(std::string line) { head.push_back(std::move(line)); }
  Statement& add(std::string line) {
    head.push_back(std::move(line));
    return *this;
  }
};

// The module is one statement: functions, then the kernel.
struct Program {
  Statement root;

  [[nodiscard]] std::string text() const;
  // Every statement that may be left out and is not, outer ones first.
  [[nodiscard]] std::vector<Statement*> droppable();
};

// Strings and numbers, joined: Text{"a", 1} is "a1". The parts are computed from left to right, as in every
// list in braces, so that what is made of random numbers is the same with every compiler.
struct Text : std::string {
  template <typename... Parts>
  Text(const Parts&... parts) {  // NOLINT: converts as the text does
    (append_part(parts), ...);
  }

 private:
  template <typename Part>
  void append_part(const Part& part) {
    if constexpr (std::is_arithmetic_v<Part>) {
      *this += std::to_string(part);
    } else {
      *this += part;
    }
  }
};

}  // namespace vgpu::testing::fuzz
