// How the 32 lanes of a warp relate, value by value, and which blocks only part of a warp may execute.
// A value is uniform (one scalar), uniform plus a constant per lane (a scalar and a table), or varying (a
// vector). Block size is known; everything claimed here is proven, wrap-around of narrow integers included.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "device/software/ir/cfg.h"
#include "device/software/ir/ir.h"

namespace vgpu::software::ir {

using LaneTable = std::array<std::int64_t, kWarpSize>;

enum class ShapeKind : std::uint8_t { kUnreached, kUniform, kOffsets, kVarying };

struct Shape {
  ShapeKind kind = ShapeKind::kUnreached;
  bool known = false;  // base is a compile-time constant
  // Lane values read as signed numbers are exactly base + table[lane]: no wrap-around at the type's width.
  bool exact = false;
  std::uint32_t table = 0;  // in LaneShapes::tables; 0 is all zero
  std::int64_t base = 0;    // lane 0's value, sign-extended, if known
  std::uint64_t align = 1;  // a power of two that divides lane 0's value
  std::int64_t low = 0;     // every lane's value, read as signed, lies in [low, high]
  std::int64_t high = 0;

  [[nodiscard]] bool is_uniform() const { return kind == ShapeKind::kUniform; }
  [[nodiscard]] bool is_varying() const { return kind == ShapeKind::kVarying; }
  friend bool operator==(const Shape&, const Shape&) = default;
};

struct LaneShapes {
  std::vector<Shape> of;  // by value
  std::vector<LaneTable> tables;
  std::vector<BlockId> order;           // linear_order
  std::vector<std::uint32_t> position;  // of a block in it, kNone if unreachable
  std::vector<Loop> loops;
  std::vector<bool> left_unevenly;           // per loop: lanes leave it in different iterations
  std::vector<bool> partial;                 // block may run with only part of the live lanes
  std::vector<std::uint32_t> component;      // of a partial block: connected partial blocks run as one chain
  std::vector<std::vector<BlockId>> chains;  // per component, in linear order
  std::vector<BlockId> chain_exit;           // per component: where its lanes meet again, or kNone
  // By value: a kSExt or kZExt whose shape holds only if no lane's operand wraps around. The code must check
  // that the scalar plus the table's least and largest entry fit the operand's type. If they do not, it must
  // run the warp from its start by code made without such claims; or, where it is checked as the block
  // begins, go on from there.
  std::vector<bool> guarded;
  std::vector<bool> guarded_on_entry;  // some of `guarded`
  std::vector<bool> is_kill;           // an empty block that only exits: lanes branching there just stop
  // By block: its branch is taken to go one way for all live lanes, though its condition is not uniform. The
  // code must check that they agree, and if they do not, go on by code made without such claims.
  std::vector<bool> converges;

  [[nodiscard]] const LaneTable& table_of(const Shape& shape) const { return tables[shape.table]; }
};

// Claims that a check at run time makes true.
struct CheckedClaims {
  bool guards = false;       // LaneShapes::guarded; guarded_on_entry only with `convergence`
  bool convergence = false;  // LaneShapes::converges
};
[[nodiscard]] LaneShapes analyse_lanes(const Function& function, CheckedClaims claims = {});

// Every value of `better` is at least as simple as in `worse`, and where both know how its lanes relate they
// say the same: code made for the one can go on by code made for the other.
[[nodiscard]] bool refines(const LaneShapes& better, const LaneShapes& worse);

// Inserts kKeep for values that are used outside a loop which lanes leave at different times; shapes of the
// new values are added to `shapes`.
void keep_live_outs(Function& function, LaneShapes& shapes);

// Every value with its shape, for tests.
[[nodiscard]] std::string print(const LaneShapes& shapes, const Function& function);

}  // namespace vgpu::software::ir
