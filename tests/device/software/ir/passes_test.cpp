// What each pass over the form does, on small kernels.
#include <gtest/gtest.h>

#include <algorithm>

#include "device/software/ir/cfg.h"
#include "device/software/ir/dependence.h"
#include "device/software/ir/lane_shapes.h"
#include "device/software/ir/passes.h"

namespace vgpu::software::ir {
namespace {

ptx::Module module_of(const std::string& declarations, const std::string& body) {
  auto module =
      ptx::Module::parse(".version 8.4\n.target sm_61\n.address_size 64\n" + declarations +
                             "\n.visible .entry k(.param .u64 p, .param .u32 n)\n{\n" + body + "\n}\n",
                         "test.ptx");
  EXPECT_TRUE(module.has_value()) << module.error().describe();
  return std::move(*module);
}

Function prepared(const std::string& body, std::uint32_t x = 128, std::uint32_t y = 1,
                  const std::string& declarations = "", std::uint64_t null_params = 0) {
  LowerOptions options;
  options.null_params = null_params;
  options.ntid[0] = x;
  options.ntid[1] = y;
  options.indices_fit_31_bits = true;
  std::string broken;
  auto function =
      prepare(module_of(declarations, body), "k", options, [&](std::string_view pass, const Function& f) {
        if (pass != "lower" && broken.empty()) broken = verify(f);
      });
  EXPECT_TRUE(function.has_value()) << function.error().message;
  EXPECT_EQ(broken, "");
  return std::move(*function);
}

std::size_t count(const Function& function, Op op) {
  std::size_t n = 0;
  for (const Block& block : function.blocks) {
    for (const InstructionId id : block.body) n += function.instructions[id].op == op ? 1 : 0;
    for (const InstructionId id : block.phis) n += function.instructions[id].op == op ? 1 : 0;
  }
  return n;
}

// Shape of the address of the n-th store.
Shape store_shape(const Function& function, const LaneShapes& shapes, std::size_t n = 0) {
  for (const Block& block : function.blocks) {
    for (const InstructionId id : block.body) {
      const Instruction& inst = function.instructions[id];
      if (inst.op == Op::kStore && n-- == 0) return shapes.of[inst.operands[0]];
    }
  }
  ADD_FAILURE() << "no such store";
  return {};
}

const std::string kRegisters =
    ".reg .pred %p<8>; .reg .b32 %r<16>; .reg .b64 %q<8>; .reg .f32 %f<8>;\n ld.param.u64 %q0, [p];\n"
    " ld.param.u32 %r0, [n];\n mov.u32 %r1, %tid.x;\n";

const std::string kLoop =
    "mov.u32 %r2, 0;\n mov.u32 %r3, 0;\n"
    "$top: add.s32 %r3, %r3, %r2;\n add.s32 %r2, %r2, 1;\n setp.lt.s32 %p0, %r2, BOUND;\n @%p0 bra $top;\n"
    " mad.wide.u32 %q1, %r1, 4, %q0;\n st.global.u32 [%q1], RESULT;\n ret;";

std::string loop(const std::string& bound, const std::string& result) {
  std::string text = kRegisters + kLoop;
  text.replace(text.find("BOUND"), 5, bound);
  text.replace(text.find("RESULT"), 6, result);
  return text;
}

TEST(BuildSsa, GivesOnlyLiveRegistersPhis) {
  const Function function = prepared(loop("%r0", "%r3"));
  EXPECT_EQ(count(function, Op::kPhi), 2u);  // the counter and the sum, and neither the address nor n
  EXPECT_EQ(count(function, Op::kRegRead), 0u);
  EXPECT_EQ(count(function, Op::kRegWrite), 0u);
}

TEST(Simplify, FoldsBranchesOnTheBlockSize) {
  const Function function = prepared(kRegisters +
                                     "mov.u32 %r2, %ntid.x;\n setp.gt.u32 %p0, %r2, 64;\n @%p0 bra $big;\n"
                                     " st.global.u32 [%q0], 1;\n bra $end;\n"
                                     "$big: st.global.u32 [%q0], 2;\n$end: ret;");
  EXPECT_EQ(count(function, Op::kStore), 1u);
}

TEST(Lower, KnowsParametersThatAreNull) {
  const std::string text = kRegisters +
                           "setp.eq.s64 %p0, %q0, 0;\n @%p0 bra $end;\n"
                           " st.global.u32 [%q0], 2;\n$end: ret;";
  EXPECT_EQ(count(prepared(text), Op::kStore), 1u);
  const Function known = prepared(text, 32, 1, "", 1);
  EXPECT_EQ(count(known, Op::kStore), 0u);
  EXPECT_EQ(known.null_params, 1u);
  EXPECT_EQ(count(prepared(text, 32, 1, "", ~std::uint64_t{1}), Op::kStore), 1u) << "others are";
  const Function narrow = prepared(kRegisters + "st.global.u32 [%q0], %r0;\n ret;", 32, 1, "", 2);
  EXPECT_EQ(narrow.null_params, 0u) << "n is half of the word";
}

TEST(Lower, InlinesFunctionsAndRefusesRecursion) {
  const std::string callee =
      ".func (.param .b32 out) twice(.param .b32 in)\n{\n .reg .b32 %r<3>;\n ld.param.u32 %r1, [in];\n"
      " add.u32 %r2, %r1, %r1;\n st.param.b32 [out], %r2;\n ret;\n}\n";
  const std::string call =
      "{ .param .b32 a; .param .b32 b; st.param.b32 [a], %r0; call.uni (b), twice, (a); ld.param.b32 %r4, "
      "[b]; }\n"
      " st.global.u32 [%q0], %r4;\n ret;";
  EXPECT_EQ(count(prepared(kRegisters + call, 32, 1, callee), Op::kAdd), 1u);

  std::string recursive = callee;
  recursive.replace(
      recursive.find(" ret;"), 5,
      "{ .param .b32 a; .param .b32 b; st.param.b32 [a], %r2; call.uni (b), twice, (a); }\n ret;");
  const auto refused = prepare(module_of(recursive, kRegisters + call), "k", {});
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("recursive call of 'twice'"), std::string::npos);
}

TEST(NormaliseLoops, GivesALoopOneLatch) {
  const Function function =
      prepared(kRegisters +
               "mov.u32 %r2, 0;\n"
               "$top: add.s32 %r2, %r2, 1;\n and.b32 %r3, %r2, 1;\n setp.eq.s32 %p0, %r3, 0;\n"
               " @%p0 bra $top;\n st.global.u32 [%q0], %r2;\n setp.lt.s32 %p1, %r2, %r0;\n"
               " @%p1 bra $top;\n ret;");
  const auto loops = find_loops(function);
  ASSERT_EQ(loops.size(), 1u);
  EXPECT_EQ(loops[0].latches.size(), 1u);
}

TEST(NormaliseLoops, GivesALoopALatchOutsideItsInnerLoops) {
  const Function function =
      prepared(kRegisters +
               "mov.u32 %r2, 0;\n"
               "$outer: add.s32 %r2, %r2, 1;\n"
               "$inner: add.s32 %r2, %r2, 3;\n setp.gt.s32 %p0, %r2, 900;\n @%p0 bra $end;\n"
               " and.b32 %r3, %r2, %r1;\n setp.eq.s32 %p1, %r3, 0;\n @%p1 bra $outer;\n bra $inner;\n"
               "$end: st.global.u32 [%q0], %r2;\n ret;");
  const auto loops = find_loops(function);
  ASSERT_EQ(loops.size(), 2u);
  EXPECT_TRUE(loops[0].contains[loops[1].header]);
  EXPECT_FALSE(loops[1].contains[loops[0].latches[0]]);
}

constexpr Members kBlocks{.blocks = true, .warps = false};
constexpr Members kWarps{.blocks = false, .warps = true};

// The row is each block's own; what all blocks read, and the loop, are there once.
TEST(CoarsenBlocks, CopiesWhatDependsOnTheBlock) {
  const std::string text =
      kRegisters +
      "mov.u32 %r2, %ctaid.x;\n mul.wide.u32 %q1, %r2, 4096;\n add.u64 %q1, %q0, %q1;\n mov.f32 %f0, "
      "0f00000000;\n"
      "$top: mul.wide.u32 %q2, %r1, 4;\n add.u64 %q3, %q1, %q2;\n add.u64 %q2, %q0, %q2;\n"
      " ld.global.f32 %f1, [%q3];\n ld.global.f32 %f2, [%q2];\n fma.rn.f32 %f0, %f1, %f2, %f0;\n"
      " add.u32 %r1, %r1, 32;\n setp.lt.u32 %p0, %r1, %r0;\n @%p0 bra $top;\n"
      " st.global.f32 [%q1], %f0;\n ret;";
  Function function = prepared(text);
  ASSERT_TRUE(coarsen(function, 4, kBlocks));
  EXPECT_EQ(verify(function), "");
  EXPECT_EQ(count(function, Op::kLoad), 2u + 4u + 1u);  // the parameters, the rows, and what all read
  EXPECT_EQ(count(function, Op::kStore), 4u);
  EXPECT_EQ(count(function, Op::kFFma), 4u);
  EXPECT_EQ(count(function, Op::kPhi), 1u + 4u);
}

// What is done or not by the block's index, and what is chosen by it, each block comes by in turn.
TEST(CoarsenBlocks, WaysThatDependOnTheBlockAreTakenInTurn) {
  Function function =
      prepared(kRegisters +
               "mov.u32 %r2, %ctaid.x;\n mov.u32 %r3, 5;\n setp.lt.u32 %p0, %r2, %r0;\n @!%p0 bra $other;\n"
               " ld.global.u32 %r3, [%q0];\n setp.eq.u32 %p1, %r3, 9;\n @%p1 bra $meet;\n"
               " st.global.u32 [%q0+4], %r1;\n bra $meet;\n"
               "$other: ld.global.u32 %r3, [%q0+8];\n"
               "$meet: mad.wide.u32 %q1, %r2, 4, %q0;\n st.global.u32 [%q1], %r3;\n ret;");
  ASSERT_TRUE(coarsen(function, 4, kBlocks));
  EXPECT_EQ(verify(function), "");
  EXPECT_EQ(count(function, Op::kLoad), 2u + 4u * 2u);
  EXPECT_EQ(count(function, Op::kStore), 4u * 2u);
}

TEST(CoarsenBlocks, SaysWhatStandsInTheWay) {
  const auto obstacle = [](const std::string& body) {
    Function function = prepared(kRegisters + "mov.u32 %r2, %ctaid.x;\n" + body + " ret;");
    const std::string before = print(function);
    const auto coarsened = coarsen(function, 2, kBlocks);
    EXPECT_EQ(print(function), before);
    return coarsened ? "" : coarsened.error();
  };
  EXPECT_EQ(obstacle("setp.lt.u32 %p0, %r2, %r0;\n @%p0 ret;\n st.global.u32 [%q0], 1;\n"),
            "branches on the block's index");
  EXPECT_EQ(obstacle("$top: sub.u32 %r2, %r2, 1;\n setp.ne.u32 %p0, %r2, 0;\n @%p0 bra $top;\n"),
            "branches on the block's index");
  EXPECT_EQ(obstacle("setp.lt.u32 %p0, %r2, %r0;\n @%p0 bra $end;\n bar.sync 0;\n$end:\n"),
            "barriers by the block's index");
  EXPECT_EQ(obstacle("atom.global.add.u32 %r3, [%q0], %r2;\n"), "atomic operations");
  EXPECT_EQ(obstacle("ld.volatile.global.u32 %r3, [%q0];\n st.global.u32 [%q0+4], %r2;\n"),
            "volatile accesses");
  EXPECT_EQ(obstacle("st.global.u32 [%q0], 1;\n"), "blocks that all do the same");
}

// A block of eight rows becomes one of two; the loop, and what does not depend on the row, are there once. A
// number of a row is the group's times four, and one of 0 to 3.
TEST(CoarsenWarps, CopiesWhatDependsOnTheRow) {
  const std::string text =
      kRegisters +
      "mov.u32 %r2, %tid.y;\n mul.wide.u32 %q1, %r2, 4096;\n add.u64 %q1, %q0, %q1;\n mov.f32 %f0, "
      "0f00000000;\n"
      "$top: mul.wide.u32 %q2, %r1, 4;\n add.u64 %q3, %q1, %q2;\n add.u64 %q2, %q0, %q2;\n"
      " ld.global.f32 %f1, [%q3];\n ld.global.f32 %f2, [%q2];\n fma.rn.f32 %f0, %f1, %f2, %f0;\n"
      " add.u32 %r1, %r1, 32;\n setp.lt.u32 %p0, %r1, %r0;\n @%p0 bra $top;\n"
      " bar.sync 0;\n st.global.f32 [%q1], %f0;\n ret;";
  Function function = prepared(text, 32, 8);
  ASSERT_TRUE(coarsen(function, 4, kWarps));
  EXPECT_EQ(verify(function), "");
  EXPECT_EQ(function.ntid[1], 2u);
  EXPECT_EQ(function.warps_at_a_time, 4u);
  EXPECT_EQ(function.blocks_at_a_time, 1u);
  EXPECT_EQ(count(function, Op::kLoad), 2u + 4u + 1u);  // the parameters, the rows, and what all read
  EXPECT_EQ(count(function, Op::kStore), 4u);
  EXPECT_EQ(count(function, Op::kFFma), 4u);
  EXPECT_EQ(count(function, Op::kPhi), 1u + 4u);
  EXPECT_EQ(count(function, Op::kBarrier), 1u);
  EXPECT_EQ(count(function, Op::kSpecial), 2u);  // tid.x, and the group's number
}

// Also where the row is asked for on one of the ways, and ways within a way.
TEST(CoarsenWarps, WaysThatDependOnTheRowAreTakenInTurn) {
  Function function =
      prepared(kRegisters +
                   "mov.u32 %r2, %warpid;\n setp.lt.u32 %p0, %r2, %r0;\n @!%p0 bra $meet;\n"
                   " mov.u32 %r4, %tid.y;\n mov.u32 %r5, %ctaid.x;\n add.u32 %r1, %r1, %r5;\n mad.wide.u32 "
                   "%q1, %r4, 4, %q0;\n ld.global.u32 %r3, [%q1];\n"
                   " setp.eq.u32 %p1, %r3, 9;\n @%p1 bra $meet;\n st.global.u32 [%q1+4], %r1;\n"
                   "$meet: bar.sync 0;\n mov.u32 %r6, %tid.y;\n st.shared.u32 [0], %r6;\n ret;",
               32, 8);
  ASSERT_TRUE(coarsen(function, 2, kWarps));
  EXPECT_EQ(verify(function), "");
  EXPECT_EQ(function.ntid[1], 4u);
  EXPECT_EQ(print(function).find("of block"), std::string::npos) << "all are of one block";
  EXPECT_EQ(count(function, Op::kLoad), 2u + 2u);
  EXPECT_EQ(count(function, Op::kStore), 2u * 2u);
  EXPECT_EQ(count(function, Op::kBarrier), 1u);
  // Wherever the row is asked for, one warp adds 1 to the group's.
  std::size_t ones = 0;
  for (const Block& block : function.blocks) {
    for (const InstructionId id : block.body) {
      const Instruction& inst = function.instructions[id];
      if (inst.op != Op::kAdd || !function.is_constant(inst.operands[1])) continue;
      ones += inst.type == Type::kI32 && function.values[inst.operands[1]].bits == 1 ? 1 : 0;
    }
  }
  EXPECT_EQ(ones, 3u);
}

TEST(CoarsenWarps, SaysWhatStandsInTheWay) {
  const auto obstacle = [](const std::string& body, std::uint32_t x = 32, std::uint32_t y = 4) {
    Function function = prepared(kRegisters + "mov.u32 %r2, %tid.y;\n" + body + " ret;", x, y);
    const std::string before = print(function);
    const auto coarsened = coarsen(function, 2, kWarps);
    EXPECT_EQ(print(function), before);
    EXPECT_EQ(function.ntid[1], coarsened ? y / 2 : y);
    return coarsened ? "" : coarsened.error();
  };
  const std::string store = "mad.wide.u32 %q1, %r2, 4, %q0;\n st.global.u32 [%q1], %r1;\n";
  EXPECT_EQ(obstacle(store, 64, 2), "warps that are not rows of the block");
  EXPECT_EQ(obstacle(store, 16, 4), "warps that are not rows of the block");
  EXPECT_EQ(obstacle(store, 32, 3), "warps that are not rows of the block");
  EXPECT_EQ(obstacle("$top: sub.u32 %r2, %r2, 1;\n setp.ne.u32 %p0, %r2, 0;\n @%p0 bra $top;\n"),
            "branches on the warp's index");
  EXPECT_EQ(obstacle("setp.lt.u32 %p0, %r2, %r0;\n @%p0 bra $end;\n bar.sync 0;\n$end:\n"),
            "barriers by the warp's index");
  EXPECT_EQ(obstacle("bar.sync 1, 64;\n" + store), "barriers of some warps");
  EXPECT_EQ(obstacle("bar.red.popc.u32 %r3, 0, %p0;\n" + store), "barriers that reduce");
  EXPECT_EQ(obstacle("atom.shared.add.u32 %r3, [0], %r2;\n"), "atomic operations");
  EXPECT_EQ(obstacle("ld.volatile.shared.u32 %r3, [0];\n" + store), "volatile accesses");
  EXPECT_EQ(obstacle("st.global.u32 [%q0], 1;\n"), "warps that all do the same");
}

// Of the first kernel two loads from shared memory, and what comes of them, are the same for all warps; of
// the second what is loaded is the same for all blocks.
TEST(Coarsen, JoinsWhatHasMoreInCommon) {
  const std::string start = kRegisters +
                            "mov.u32 %r2, %tid.y;\n mov.u32 %r3, %ctaid.x;\n shl.b32 %r4, %r1, 2;\n"
                            " mad.lo.u32 %r5, %r2, 128, %r4;\n st.shared.u32 [%r5], %r1;\n bar.sync 0;\n";
  const std::string end = "mad.wide.u32 %q1, %r6, 4, %q0;\n st.global.u32 [%q1], %r7;\n ret;";
  Function tile = prepared(start +
                               "ld.shared.u32 %r7, [%r4];\n ld.shared.u32 %r8, [%r4+128];\n"
                               " mul.lo.u32 %r7, %r7, %r8;\n mad.lo.u32 %r6, %r3, 128, %r5;\n" +
                               end,
                           32, 4);
  ASSERT_TRUE(coarsen(tile, 2));
  EXPECT_EQ(tile.warps_at_a_time, 2u);
  EXPECT_EQ(tile.blocks_at_a_time, 1u);

  Function row =
      prepared(kRegisters +
                   "mov.u32 %r2, %tid.y;\n mov.u32 %r3, %ctaid.x;\n mad.lo.u32 %r4, %r2, 32, %r1;\n"
                   " mad.wide.u32 %q1, %r4, 4, %q0;\n ld.global.u32 %r5, [%q1];\n"
                   " mul.lo.u32 %r5, %r5, %r5;\n mad.wide.u32 %q1, %r3, 512, %q1;\n"
                   " st.global.u32 [%q1], %r5;\n ret;",
               32, 4);
  ASSERT_TRUE(coarsen(row, 2));
  EXPECT_EQ(row.blocks_at_a_time, 2u);
  EXPECT_EQ(row.warps_at_a_time, 1u);
  EXPECT_EQ(row.ntid[1], 4u);

  const auto refused = coarsen(row, 2, {.blocks = false, .warps = false});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error(), "it is turned off");
}

// Two blocks lead to each other, and the start to both; verify() says so if a loop has more than one entry.
TEST(ReduceLoops, GivesALoopOneEntry) {
  const Function function =
      prepared(kRegisters +
               "setp.ge.u32 %p0, %r1, %r0;\n @%p0 bra $second;\n"
               "$first: add.u32 %r1, %r1, 1;\n setp.gt.u32 %p1, %r1, 100;\n @%p1 bra $end;\n"
               "$second: add.u32 %r1, %r1, 2;\n setp.lt.u32 %p2, %r1, 90;\n @%p2 bra $first;\n"
               "$end: mad.wide.u32 %q1, %r1, 4, %q0;\n st.global.u32 [%q1], 1;\n ret;");
  const auto loops = find_loops(function);
  ASSERT_EQ(loops.size(), 1u);
  EXPECT_EQ(loops[0].latches.size(), 1u);
}

TEST(LinearOrder, KeepsALoopTogether) {
  const Function function = prepared(kRegisters +
                                     "mov.u32 %r2, 0;\n"
                                     "$top: setp.ge.s32 %p0, %r2, %r0;\n @%p0 bra $out;\n"
                                     " and.b32 %r3, %r2, %r1;\n setp.eq.s32 %p1, %r3, 0;\n @%p1 bra $skip;\n"
                                     " st.global.u32 [%q0], %r2;\n"
                                     "$skip: add.s32 %r2, %r2, 1;\n bra $top;\n"
                                     "$out: st.global.u32 [%q0+4], %r2;\n ret;");
  const auto loops = find_loops(function);
  ASSERT_EQ(loops.size(), 1u);
  const auto order = linear_order(function);
  std::vector<std::size_t> inside;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (loops[0].contains[order[i]]) inside.push_back(i);
  }
  EXPECT_EQ(inside.back() - inside.front() + 1, inside.size());
}

TEST(LaneShapes, ThreadIndexIsAScalarPlusTheLane) {
  const Function function =
      prepared(kRegisters + "mad.wide.u32 %q1, %r1, 4, %q0;\n st.global.u32 [%q1], 0;\n ret;");
  const LaneShapes shapes = analyse_lanes(function);
  const Shape shape = store_shape(function, shapes);
  ASSERT_EQ(shape.kind, ShapeKind::kOffsets);
  for (std::size_t i = 0; i < kWarpSize; ++i)
    EXPECT_EQ(shapes.table_of(shape)[i], static_cast<std::int64_t>(4 * i));
}

TEST(LaneShapes, TablesNeedNotBeAffine) {
  // tid / 2 * 18 + (tid & 1) * 8, as kernels address quantised blocks.
  const Function function =
      prepared(kRegisters +
               "shr.u32 %r2, %r1, 1;\n mul.lo.s32 %r2, %r2, 18;\n and.b32 %r3, %r1, 1;\n"
               " shl.b32 %r3, %r3, 3;\n add.s32 %r2, %r2, %r3;\n cvt.u64.u32 %q1, %r2;\n"
               " add.s64 %q1, %q0, %q1;\n st.global.u32 [%q1], 0;\n ret;");
  const LaneShapes shapes = analyse_lanes(function);
  const Shape shape = store_shape(function, shapes);
  ASSERT_EQ(shape.kind, ShapeKind::kOffsets);
  for (std::int64_t i = 0; i < 32; ++i) {
    EXPECT_EQ(shapes.table_of(shape)[static_cast<std::size_t>(i)], i / 2 * 18 + (i & 1) * 8);
  }
}

TEST(LaneShapes, BitsThatNeverMeetAddUp) {
  // n * 16 | (tid & 1) * 2 | BITS, as compilers write sums whose parts have no bit in common.
  const auto shape_with = [](const std::string& bits, LaneTable& table) {
    const Function function =
        prepared(kRegisters + "mul.wide.u32 %q1, %r0, 16;\n and.b32 %r2, %r1, 1;\n shl.b32 %r2, %r2, 1;\n" +
                 " cvt.u64.u32 %q2, %r2;\n or.b64 %q1, %q1, %q2;\n or.b64 %q1, %q1, " + bits +
                 ";\n add.s64 %q1, %q0, %q1;\n st.global.u32 [%q1], 0;\n ret;");
    const LaneShapes shapes = analyse_lanes(function);
    const Shape shape = store_shape(function, shapes);
    table = shapes.table_of(shape);
    return shape;
  };
  LaneTable table{};
  ASSERT_EQ(shape_with("8", table).kind, ShapeKind::kOffsets);
  for (std::size_t i = 0; i < kWarpSize; ++i) EXPECT_EQ(table[i], static_cast<std::int64_t>((i & 1) * 2));
  EXPECT_EQ(shape_with("2", table).kind, ShapeKind::kVarying) << "odd lanes have the bit already";
  EXPECT_EQ(shape_with("16", table).kind, ShapeKind::kVarying) << "n may have the bit";
}

TEST(LaneShapes, SignOfWhatIsNotNegativeIsKnown) {
  // Signed division by two as compilers write it.
  const Function function = prepared(kRegisters +
                                     "shr.u32 %r2, %r1, 31;\n add.s32 %r2, %r1, %r2;\n shr.s32 %r2, %r2, 1;\n"
                                     " mad.wide.s32 %q1, %r2, 4, %q0;\n st.global.u32 [%q1], 0;\n ret;");
  const LaneShapes shapes = analyse_lanes(function);
  const Shape shape = store_shape(function, shapes);
  ASSERT_EQ(shape.kind, ShapeKind::kOffsets);
  for (std::int64_t i = 0; i < 32; ++i) {
    EXPECT_EQ(shapes.table_of(shape)[static_cast<std::size_t>(i)], i / 2 * 4);
  }
}

TEST(LaneShapes, SecondDimensionIsUniformInRowsOfWarps) {
  const std::string body = kRegisters +
                           "mov.u32 %r2, %tid.y;\n mad.wide.u32 %q1, %r2, 4, %q0;\n"
                           " st.global.u32 [%q1], 0;\n ret;";
  const Function rows = prepared(body, 32, 4);
  EXPECT_EQ(store_shape(rows, analyse_lanes(rows)).kind, ShapeKind::kUniform);
  const Function columns = prepared(body, 24, 4);
  EXPECT_EQ(store_shape(columns, analyse_lanes(columns)).kind, ShapeKind::kVarying);
}

TEST(LaneShapes, MakesNoClaimWhereANarrowIndexMayWrap) {
  // n + tid may wrap around at 32 bits: the extended addresses then are not neighbours.
  const Function function = prepared(kRegisters +
                                     "add.s32 %r2, %r0, %r1;\n mad.wide.s32 %q1, %r2, 4, %q0;\n"
                                     " st.global.u32 [%q1], 0;\n ret;");
  EXPECT_EQ(store_shape(function, analyse_lanes(function)).kind, ShapeKind::kVarying);
}

TEST(LaneShapes, UniformBranchesPartNobody) {
  const Function function = prepared(loop("%r0", "%r3"));
  const LaneShapes shapes = analyse_lanes(function);
  EXPECT_EQ(std::ranges::count(shapes.partial, true), 0);
  EXPECT_TRUE(shapes.chains.empty());
}

TEST(LaneShapes, VaryingLoopBoundMakesTheLoopPartialAndItsResultVarying) {
  Function function = prepared(loop("%r1", "%r3"));
  LaneShapes shapes = analyse_lanes(function);
  EXPECT_GT(std::ranges::count(shapes.partial, true), 0);
  // In the loop counter and sum are the same for all lanes that are still there; behind it they are kept.
  keep_live_outs(function, shapes);
  EXPECT_EQ(verify(function), "");
  EXPECT_EQ(count(function, Op::kKeep), 1u);
  for (const Block& block : function.blocks) {
    for (const InstructionId id : block.phis) {
      EXPECT_EQ(shapes.of[function.instructions[id].results[0]].kind, ShapeKind::kUniform);
    }
  }
}

TEST(LaneShapes, EarlyExitPartsNobody) {
  const Function function = prepared(kRegisters +
                                     "setp.ge.u32 %p0, %r1, %r0;\n @%p0 bra $end;\n"
                                     " mad.wide.u32 %q1, %r1, 4, %q0;\n st.global.u32 [%q1], 0;\n"
                                     "$end: ret;");
  const LaneShapes shapes = analyse_lanes(function);
  EXPECT_EQ(std::ranges::count(shapes.partial, true), 0);
  EXPECT_EQ(std::ranges::count(shapes.is_kill, true), 1);
}

TEST(LaneShapes, BranchesByIndicesMayBeTakenToConverge) {
  const Function function = prepared(loop("%r1", "%r3"));
  const LaneShapes masked = analyse_lanes(function);
  const LaneShapes shapes = analyse_lanes(function, {.convergence = true});
  EXPECT_GT(std::ranges::count(masked.partial, true), 0);
  EXPECT_EQ(std::ranges::count(masked.converges, true), 0);
  EXPECT_EQ(std::ranges::count(shapes.partial, true), 0);
  EXPECT_EQ(std::ranges::count(shapes.converges, true), 1);
  EXPECT_TRUE(refines(shapes, masked));
}

TEST(LaneShapes, BranchesByDataAndBetweenKnownLanesAreNotTakenToConverge) {
  const Function by_data = prepared(kRegisters +
                                    "mad.wide.u32 %q1, %r1, 4, %q0;\n ld.global.u32 %r2, [%q1];\n"
                                    " setp.lt.u32 %p0, %r2, %r0;\n @%p0 bra $end;\n st.global.u32 [%q1], 1;\n"
                                    "$end: st.global.u32 [%q1+4], 2;\n ret;");
  const Function known = prepared(kRegisters +
                                  "mov.u32 %r2, %laneid;\n setp.lt.u32 %p0, %r2, 16;\n @%p0 bra $end;\n"
                                  " st.global.u32 [%q0], 1;\n$end: st.global.u32 [%q0+4], 2;\n ret;");
  for (const Function* function : {&by_data, &known}) {
    const LaneShapes shapes = analyse_lanes(*function, {.convergence = true});
    EXPECT_EQ(std::ranges::count(shapes.converges, true), 0);
    EXPECT_GT(std::ranges::count(shapes.partial, true), 0);
  }
}

TEST(LaneShapes, EqualitiesThatOneLaneMeetsAreNotTakenToConverge) {
  const std::string guarded =
      " @%p0 bra $end;\n st.global.u32 [%q0], 1;\n$end: st.global.u32 [%q0+4], 2;\n ret;";
  const Function one = prepared(kRegisters + "setp.ne.u32 %p0, %r1, %r0;\n" + guarded);
  const Function of_two = prepared(kRegisters + "mov.u32 %r2, %ctaid.x;\n or.b32 %r2, %r2, %r1;\n" +
                                   " setp.ne.u32 %p0, %r2, 0;\n" + guarded);
  for (const Function* function : {&one, &of_two}) {
    const LaneShapes shapes = analyse_lanes(*function, {.convergence = true});
    EXPECT_EQ(std::ranges::count(shapes.converges, true), 0);
    EXPECT_GT(std::ranges::count(shapes.partial, true), 0);
  }
  // Pairs of lanes that are equal: what is left of a row, say, mostly is there for all or for none.
  const Function pairs =
      prepared(kRegisters + "shr.u32 %r2, %r1, 1;\n setp.ne.u32 %p0, %r2, %r0;\n" + guarded);
  EXPECT_EQ(std::ranges::count(analyse_lanes(pairs, {.convergence = true}).converges, true), 1);
}

// Once lanes have parted, which of them come to a branch is no matter of indices.
TEST(LaneShapes, BranchesOfPartOfAWarpAreNotTakenToConverge) {
  const Function function =
      prepared(kRegisters +
               "mov.u32 %r2, %laneid;\n setp.lt.u32 %p0, %r2, 16;\n @%p0 bra $end;\n"
               " setp.lt.u32 %p1, %r1, %r0;\n @%p1 bra $end;\n st.global.u32 [%q0], 1;\n"
               "$end: st.global.u32 [%q0+4], 2;\n ret;");
  const LaneShapes shapes = analyse_lanes(function, {.convergence = true});
  EXPECT_EQ(std::ranges::count(shapes.converges, true), 0);
}

// What was loaded, and what is computed of it, round a loop too; not what it is stored to.
TEST(DependingValues, AreComputedOfSources) {
  const Function function = prepared(kRegisters + R"(
    mov.u32 %r1, %tid.x; mad.wide.u32 %q1, %r1, 4, %q0; mov.u32 %r2, 0; mov.u32 %r4, 0;
  $top: ld.global.u32 %r3, [%q1]; add.u32 %r2, %r2, %r3; add.u32 %r4, %r4, 1;
    setp.lt.u32 %p0, %r4, 9; @%p0 bra $top;
    st.global.u32 [%q1], %r2; st.global.u32 [%q1+4], %r4; ret;)");
  std::vector<BlockId> order = reverse_post_order(function);
  std::vector<const Instruction*> stores;
  for (const BlockId id : order) {
    for (const InstructionId inst : function.blocks[id].body) {
      if (function.instructions[inst].op == Op::kStore) stores.push_back(&function.instructions[inst]);
    }
  }
  ASSERT_EQ(stores.size(), 2u);
  for (int way = 0; way < 2; ++way) {  // in any order of blocks
    const std::vector<bool> depends = depending_values(function, order, gives_data);
    EXPECT_TRUE(depends[stores[0]->operands[1]]);
    EXPECT_FALSE(depends[stores[1]->operands[1]]);
    EXPECT_FALSE(depends[stores[0]->operands[0]]);
    std::ranges::reverse(order);
  }
  const auto none = [](ValueId) { return false; };
  EXPECT_EQ(std::ranges::count(depending_values(function, order, gives_data, none), true), 0);
}

TEST(SplitLoads, ChoosesBetweenWhatWasLoadedNotBetweenAddresses) {
  const Function function =
      prepared(".local .align 4 .b8 zeros[4];\n" + kRegisters +
               "mov.u64 %q2, zeros;\n cvta.local.u64 %q3, %q2;\n st.local.u32 [zeros], %r0;\n"
               " setp.ge.u32 %p0, %r0, 77;\n @%p0 bra $chosen;\n mad.wide.u32 %q3, %r1, 4, %q0;\n"
               "$chosen: ld.u32 %r2, [%q3];\n st.global.u32 [%q0], %r2;\n ret;");
  const LaneShapes shapes = analyse_lanes(function);
  std::vector<ShapeKind> addresses;
  for (const Block& block : function.blocks) {
    for (const InstructionId id : block.body) {
      const Instruction& inst = function.instructions[id];
      if (inst.op == Op::kLoad && inst.space == Space::kGlobal)
        addresses.push_back(shapes.of[inst.operands[0]].kind);
    }
  }
  std::ranges::sort(addresses);
  EXPECT_EQ(addresses, (std::vector{ShapeKind::kOffsets, ShapeKind::kVarying}));
}

TEST(MergeLoads, HalvesOfAWordAreLoadedTogether) {
  const std::string halves =
      ".reg .b16 %h<4>;\n ld.global.u16 %h0, [%q0+2];\n ld.global.u16 %h1, [%q0+4];\n BETWEEN"
      " mov.b32 %r2, {%h0, %h1};\n st.global.u32 [%q0+8], %r2;\n ret;";
  const auto with = [&](const std::string& between) {
    std::string body = kRegisters + halves;
    return prepared(body.replace(body.find("BETWEEN"), 7, between));
  };
  const auto global_loads = [](const Function& function) {
    std::vector<Instruction> loads;
    for (const Block& block : function.blocks) {
      for (const InstructionId id : block.body) {
        const Instruction& inst = function.instructions[id];
        if (inst.op == Op::kLoad && inst.space == Space::kGlobal) loads.push_back(inst);
      }
    }
    return loads;
  };
  const auto merged = global_loads(with(""));
  ASSERT_EQ(merged.size(), 1u);
  EXPECT_EQ(merged[0].type, Type::kI32);
  EXPECT_EQ(merged[0].imm, 2);
  // The word must be what memory held when the halves were read.
  EXPECT_EQ(global_loads(with("st.global.u32 [%q0], 7;\n")).size(), 2u);
  EXPECT_EQ(global_loads(with("bar.sync 0;\n")).size(), 2u);
}

TEST(LaneShapes, ValuesThatMeetAfterPartingVary) {
  const Function function =
      prepared(kRegisters +
               "mov.u32 %r2, 5;\n and.b32 %r3, %r1, %r0;\n setp.eq.s32 %p0, %r3, 0;\n"
               " @%p0 bra $join;\n mov.u32 %r2, 7;\n"
               "$join: mad.wide.u32 %q1, %r2, 4, %q0;\n st.global.u32 [%q1], 0;\n ret;");
  EXPECT_EQ(store_shape(function, analyse_lanes(function)).kind, ShapeKind::kVarying);
}

TEST(LaneShapes, ShuffleFromOneLaneIsUniform) {
  const Function function =
      prepared(kRegisters +
               "shfl.sync.idx.b32 %r2, %r1, 0, 31, -1;\n mad.wide.u32 %q1, %r2, 4, %q0;\n"
               " st.global.u32 [%q1], 0;\n ret;");
  EXPECT_EQ(store_shape(function, analyse_lanes(function)).kind, ShapeKind::kUniform);
}

TEST(Print, ShowsBlocksAndOperations) {
  const std::string text = print(prepared(kRegisters + "st.global.u32 [%q0+8], 3;\n ret;"));
  EXPECT_NE(text.find("kernel k\nb0:\n"), std::string::npos) << text;
  EXPECT_NE(text.find("load.param.constant i64"), std::string::npos) << text;
  EXPECT_NE(text.find("store.global i32 #8 %"), std::string::npos) << text;
}

// Whether the first block, which branches to where some threads end, still has its barrier.
bool waits_before_leaving(const std::string& body) {
  Function function = prepared(kRegisters + body);
  const std::uint32_t skipped = leave_before_barriers(function);
  EXPECT_EQ(verify(function), "");
  std::size_t barriers = 0;
  for (const BlockId id : linear_order(function)) {
    barriers +=
        static_cast<std::size_t>(std::ranges::count_if(function.blocks[id].body, [&](InstructionId i) {
          return function.instructions[i].op == Op::kBarrier;
        }));
  }
  EXPECT_EQ(barriers, 1U);
  const bool waits = std::ranges::any_of(
      function.blocks[0].body, [&](InstructionId i) { return function.instructions[i].op == Op::kBarrier; });
  EXPECT_EQ(skipped, waits ? 0U : 1U);
  return waits;
}

TEST(LeaveBeforeBarriers, WhoOnlyEndsBehindABarrierDoesNotWait) {
  const std::string leave =
      " mov.u32 %r1, %tid.x; setp.gt.u32 %p1, %r1, 31; @%p1 ret; st.global.u32 [%q0], 3; ret;";
  EXPECT_FALSE(waits_before_leaving("bar.sync 0;" + leave));
  EXPECT_FALSE(waits_before_leaving("bar.sync 5;" + leave));
  // Barriers that count or reduce, and what must not be done in front of the barrier.
  EXPECT_TRUE(waits_before_leaving("bar.sync 0, 64;" + leave));
  EXPECT_TRUE(waits_before_leaving(
      "setp.eq.u32 %p1, 0, 0; bar.red.popc.u32 %r3, 0, %p1; st.global.u32 [%q0], %r3;" + leave));
  EXPECT_TRUE(waits_before_leaving("bar.sync 0; st.global.u32 [%q0], 4;" + leave));
  EXPECT_TRUE(
      waits_before_leaving("bar.sync 0; ld.global.u32 %r2, [%q0]; setp.gt.u32 %p1, %r2, 31; @%p1 ret; "
                           "st.global.u32 [%q0], 3; ret;"));
}

// By block, whether a barrier stands in it; a barrier that is not the last instruction counts as 2.
std::vector<int> barriers_of(const std::string& body) {
  Function function = prepared(kRegisters + body);
  end_blocks_at_barriers(function);
  EXPECT_EQ(verify(function), "");
  std::vector<int> found;
  for (const BlockId id : linear_order(function)) {
    const auto& instructions = function.blocks[id].body;
    found.push_back(0);
    for (std::size_t i = 0; i < instructions.size(); ++i) {
      if (function.instructions[instructions[i]].op != Op::kBarrier) continue;
      found.back() = i + 1 == instructions.size() ? 1 : 2;
    }
  }
  return found;
}

TEST(EndBlocksAtBarriers, NothingStandsBehindABarrierInItsBlock) {
  EXPECT_EQ(barriers_of("ret;"), std::vector({0}));
  EXPECT_EQ(barriers_of("bar.sync 0; ret;"), std::vector({1}));
  EXPECT_EQ(barriers_of("bar.sync 0; bar.sync 1; st.global.u32 [%q0], 3; ret;"), std::vector({1, 1, 0}));
}

TEST(EndBlocksAtBarriers, BranchesAndPhisBehindABarrierReadOtherBlocks) {
  // The whole loop is one block that goes back to itself.
  EXPECT_EQ(barriers_of(R"(
    ld.param.u32 %r1, [n];
  again: sub.u32 %r1, %r1, 1; setp.ne.u32 %p1, %r1, 0; bar.sync 0; @%p1 bra again;
    ret;)"),
            std::vector({0, 1, 0, 0}));
  EXPECT_EQ(barriers_of(R"(
    ld.param.u32 %r1, [n]; mov.u32 %r2, 1; setp.gt.u32 %p1, %r1, 63; @%p1 bra other;
    add.u32 %r2, %r1, 5; bar.sync 0;
  other: st.global.u32 [%q0], %r2; ret;)"),
            std::vector({0, 1, 0, 0}));
}

}  // namespace
}  // namespace vgpu::software::ir
