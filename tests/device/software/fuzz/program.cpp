// See program.h.
#include "tests/device/software/fuzz/program.h"

namespace vgpu::testing::fuzz {
namespace {

void write(const Statement& statement, std::size_t depth, std::string& out) {
  if (statement.dropped) return;
  const auto lines = [&](const std::vector<std::string>& list) {
    for (const std::string& line : list) {
      if (!line.ends_with(':')) out.append(depth, ' ');
      out += line;
      out += '\n';
    }
  };
  lines(statement.head);
  for (const Statement& child : statement.body) write(child, depth + 1, out);
  lines(statement.middle);
  for (const Statement& child : statement.otherwise) write(child, depth + 1, out);
  lines(statement.tail);
}

void collect(std::vector<Statement>& level, std::vector<Statement*>& found) {
  for (Statement& statement : level) {
    if (statement.dropped) continue;
    if (!statement.needed) found.push_back(&statement);
  }
  for (Statement& statement : level) {
    if (statement.dropped) continue;
    collect(statement.body, found);
    collect(statement.otherwise, found);
  }
}

}  // namespace

std::string Program::text() const {
  std::string out;
  write(root, 0, out);
  return out;
}

std::vector<Statement*> Program::droppable() {
  std::vector<Statement*> found;
  collect(root.body, found);
  return found;
}

}  // namespace vgpu::testing::fuzz
