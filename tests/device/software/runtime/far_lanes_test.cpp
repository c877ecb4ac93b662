// Loads of lanes that lie far apart, a row of words each, in global and in shared memory: with each way of
// compiling them on and off, with all lanes and with some, one block and several at a time, up to the very
// ends of memory and beyond them. What every thread loaded is compared with the oracle's.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "device/software/runtime/kernel_compiler.h"
#include "device/software/runtime/software_backend.h"
#include "tests/device/software/oracle/oracle_runner.h"
#include "tests/device/software/runtime/device_runner.h"

namespace vgpu::testing::kernels {
namespace {

using software::jit::Passes;

struct Way {
  const char* name;
  Passes passes;
  bool coarsens = false;
};

Passes only_without(bool Passes::* pass) {
  Passes passes;
  passes.*pass = false;
  return passes;
}

const Way kWays[] = {
    {"all", {}},
    {"several_blocks", {}, true},
    {"none", Passes::none()},
    {"no_transposes", only_without(&Passes::transposes)},
    {"no_windows", only_without(&Passes::windows)},
};

// What a kernel loads of the row at %q4 (or %r6, of the tile), and adds to %r20. Neighbouring words, words
// with gaps, what is no word and, where rows are aligned for it, pairs and quadruples, of 96
// bytes.
constexpr std::size_t kRowBytes = 96;
std::string loads_of_row(const std::string& ld, const std::string& row, bool aligned) {
  const auto at = [&](int offset) { return "[" + row + "+" + std::to_string(offset) + "];\n"; };
  const std::string mix = " mad.lo.u32 %r20, %r20, 31, ";
  std::string text;
  for (const int offset : {4, 8, 12, 16, 0, 28, 32, 40, 52, 92})
    text += " " + ld + ".u32 %r9, " + at(offset) + mix + "%r9;\n";
  text += " " + ld + ".f32 %f0, " + at(80) + " mov.b32 %r9, %f0;\n" + mix + "%r9;\n";
  text += " " + ld + ".u16 %h0, " + at(70) + " cvt.u32.u16 %r9, %h0;\n" + mix + "%r9;\n";
  text += " " + ld + ".s8 %r9, " + at(77) + mix + "%r9;\n";
  if (!aligned) return text;
  text += " " + ld + ".v2.u32 {%r10, %r11}, " + at(56) + mix + "%r10;\n" + mix + "%r11;\n";
  text += " " + ld + ".v4.u32 {%r12, %r13, %r14, %r15}, " + at(64);
  for (const char* word : {"%r12", "%r13", "%r14", "%r15"}) text += mix + word + ";\n";
  text += " " + ld + ".u64 %q6, " + at(32) + " cvt.u32.u64 %r9, %q6;\n" + mix + "%r9;\n";
  text += " shr.u64 %q6, %q6, 32;\n cvt.u32.u64 %r9, %q6;\n" + mix + "%r9;\n";
  return text;
}

const std::string kHead =
    ".version 8.4\n.target sm_61\n.address_size 64\n.extern .shared .align 16 .b8 tile[];\n"
    ".visible .entry k(.param .u64 out, .param .u64 in, .param .u32 first, .param .u32 base)\n{\n"
    " .reg .b32 %r<40>; .reg .b16 %h<4>; .reg .b64 %q<20>; .reg .pred %p<8>; .reg .f32 %f<8>;\n"
    " ld.param.u64 %q0, [out];\n ld.param.u64 %q1, [in];\n ld.param.u32 %r0, [first];\n ld.param.u32 %r1, "
    "[base];\n mov.u32 %r2, %tid.x;\n mov.u32 %r3, %ctaid.x;\n mov.u32 %r4, %ntid.x;\n"
    " mad.lo.u32 %r5, %r3, %r4, %r2;\n mad.wide.u32 %q2, %r5, 4, %q0;\n mov.u32 %r20, 0;\n";
const std::string kTail = "$end:\n st.global.u32 [%q2], %r20;\n ret;\n}\n";
// Threads below `first` load nothing.
const std::string kSome = " setp.lt.u32 %p0, %r2, %r0;\n @%p0 bra $end;\n";

std::string rows(const std::string& before, int stride, const std::string& ld) {
  return kHead + before + " mov.u32 %r6, %r2;\n mul.wide.u32 %q3, %r6, " + std::to_string(stride) +
         ";\n add.s64 %q4, %q1, %q3;\n cvt.u64.u32 %q5, %r1;\n add.s64 %q4, %q4, %q5;\n" +
         loads_of_row(ld, "%q4", stride % 16 == 0) + kTail;
}
const std::string kRows = rows("", 132, "ld.global");
const std::string kConstantRows = rows("", 132, "ld.global.nc");
const std::string kNearRows = rows("", 96, "ld.global");
const std::string kAlignedRows = rows("", 272, "ld.global");
const std::string kFarRows = rows("", 1500, "ld.global");
const std::string kVeryFarRows = rows("", 4096, "ld.global");
const std::string kSomeRows = rows(kSome, 132, "ld.global");
// The last lane's row is the first.
const std::string kBackwards = kHead +
                               " sub.u32 %r7, 63, %r2;\n mul.wide.u32 %q3, %r7, 260;\n"
                               " add.s64 %q4, %q1, %q3;\n" +
                               loads_of_row("ld.global", "%q4", false) + kTail;

// All threads fill the tile with numbers.
std::string filled_tile(const std::string& before) {
  return kHead +
         " mov.u32 %r6, %dynamic_smem_size;\n shl.b32 %r7, %r2, 2;\n shl.b32 %r8, %r4, 2;\n"
         "$fill:\n setp.ge.u32 %p1, %r7, %r6;\n @%p1 bra $filled;\n mad.lo.u32 %r9, %r7, 40503, %r3;\n"
         " mov.u32 %r10, tile;\n add.u32 %r10, %r10, %r7;\n st.shared.u32 [%r10], %r9;\n add.u32 %r7, %r7, "
         "%r8;\n"
         " bra $fill;\n$filled:\n bar.sync 0;\n" +
         before;
}

// After that each loads its row, from `base` on, what a neighbour stores there then, and the row again.
std::string tile(const std::string& before, int stride) {
  return filled_tile(before) + " mov.u32 %r7, tile;\n mad.lo.u32 %r6, %r2, " + std::to_string(stride) +
         ", %r7;\n add.u32 %r6, %r6, %r1;\n" + loads_of_row("ld.shared", "%r6", stride % 16 == 0) +
         " bar.warp.sync -1;\n st.shared.u32 [%r6+8], %r20;\n bar.warp.sync -1;\n" +
         loads_of_row("ld.shared", "%r6", stride % 16 == 0) + kTail;
}
const std::string kTile = tile("", 132);
const std::string kWideTile = tile("", 260);
const std::string kNearTile = tile("", 96);
const std::string kAlignedTile = tile("", 528);
const std::string kSomeOfTile = tile(kSome, 132);

// Places that all threads load, store to and load again, from `base` on.
std::string places(std::initializer_list<int> offsets) {
  std::string all = " mov.u32 %r7, tile;\n add.u32 %r6, %r7, %r1;\n";
  for (const int offset : offsets) {
    const std::string place = "[%r6+" + std::to_string(offset) + "]";
    all += " ld.shared.u32 %r8, " + place + ";\n mad.lo.u32 %r20, %r20, 31, %r8;\n st.shared.u32 " + place +
           ", 17;\n ld.shared.u32 %r8, " + place + ";\n add.u32 %r20, %r20, %r8;\n";
  }
  return filled_tile("") + all + kTail;
}
const std::string kPlaces = places({0, 1024, 4000});
const std::string kPlacesBehind = places({1024, 4000});
const std::string kFarPlaces = places({0, 40000});
const std::string kPlacesTooFarApart = places({70000, 0});

struct Launch {
  const char* name;
  const std::string* program;
  std::uint32_t grid, block, first, base;
  std::size_t input_bytes;   // exactly what the threads read
  std::uint32_t tile_bytes;  // of shared memory
  Status expected = Status::kDone;
};

constexpr auto end_of(std::size_t rows, std::size_t stride) {
  return (rows - 1) * stride + kRowBytes;
}
constexpr std::uint32_t negative(std::uint32_t value) {
  return 0U - value;
}
constexpr auto kFault = Status::kIllegalAddress;

const Launch kLaunches[] = {
    {"rows", &kRows, 5, 64, 0, 0, end_of(64, 132), 0},
    {"rows_beyond_the_end", &kRows, 1, 64, 0, 4, end_of(64, 132), 0, kFault},
    {"rows_of_constant_memory", &kConstantRows, 5, 32, 0, 0, end_of(32, 132), 0},
    {"rows_side_by_side", &kNearRows, 1, 64, 0, 0, end_of(64, 96), 0},
    {"rows_side_by_side_beyond_the_end", &kNearRows, 1, 64, 0, 16, end_of(64, 96), 0, kFault},
    {"aligned_rows", &kAlignedRows, 4, 64, 0, 0, end_of(64, 272), 0},
    {"rows_far_apart", &kFarRows, 1, 32, 0, 0, end_of(32, 1500), 0},
    {"rows_very_far_apart", &kVeryFarRows, 1, 32, 0, 0, end_of(32, 4096), 0},
    {"rows_backwards", &kBackwards, 4, 64, 0, 0, end_of(64, 260), 0},
    {"some_rows", &kSomeRows, 5, 64, 37, 0, end_of(64, 132), 0},
    {"rows_of_part_of_a_warp", &kRows, 1, 40, 0, 0, end_of(40, 132), 0},
    {"tile", &kTile, 5, 32, 0, 0, 4, 4224},
    {"tile_at_the_end", &kTile, 4, 32, 0, 8192 - end_of(32, 132), 4, 8192},
    {"tile_beyond_the_end", &kTile, 1, 32, 0, 8196 - end_of(32, 132), 4, 8192, kFault},
    {"tile_before_the_start", &kTile, 1, 32, 0, negative(4), 4, 8192, kFault},
    {"tile_far_before_the_start", &kTile, 1, 32, 0, negative(36 << 10), 4, 8192, kFault},
    {"tile_very_far_away", &kTile, 1, 32, 0, 0x7FFF'FF00, 4, 8192, kFault},
    {"wide_tile", &kWideTile, 4, 64, 0, 16, 4, 17408},
    {"wide_tile_at_the_end", &kWideTile, 1, 64, 0, 20480 - end_of(64, 260), 4, 20480},
    {"tile_side_by_side", &kNearTile, 4, 32, 0, 4096 - end_of(32, 96), 4, 4096},
    {"aligned_tile", &kAlignedTile, 4, 64, 0, 32, 4, 36864},
    {"some_of_a_tile", &kSomeOfTile, 4, 64, 13, 0, 4, 8448},
    {"some_of_a_tile_from_the_start", &kSomeOfTile, 4, 32, 13, negative(13 * 132), 4, 4096},
    {"too_many_of_a_tile", &kSomeOfTile, 1, 32, 12, negative(13 * 132), 4, 4096, kFault},
    {"places", &kPlaces, 2, 32, 0, 0, 4, 8192},
    {"places_at_the_end", &kPlaces, 1, 32, 0, 8192 - 4004, 4, 8192},
    {"places_beyond_the_end", &kPlaces, 1, 32, 0, 8196 - 4004, 4, 8192, kFault},
    {"places_before_the_start", &kPlaces, 1, 32, 0, negative(4), 4, 8192, kFault},
    {"places_very_far_away", &kPlaces, 1, 32, 0, 0x7FFF'FF00, 4, 8192, kFault},
    {"places_very_far_before", &kPlaces, 1, 32, 0, 0x8000'0000, 4, 8192, kFault},
    {"places_behind_at_the_start", &kPlacesBehind, 1, 32, 0, negative(1024), 4, 8192},
    {"places_behind_before_the_start", &kPlacesBehind, 1, 32, 0, negative(1028), 4, 8192, kFault},
    {"far_places", &kFarPlaces, 1, 32, 0, 45056 - 40004, 4, 45056},
    {"far_places_beyond_the_end", &kFarPlaces, 1, 32, 0, 0, 4, 8192, kFault},
    {"far_places_before_the_start", &kFarPlaces, 1, 32, 0, negative(40000), 4, 8192, kFault},
    {"places_too_far_apart", &kPlacesTooFarApart, 1, 32, 0, 0, 4, 8192, kFault},
    {"tile_of_part_of_a_warp", &kTile, 1, 40, 0, 0, 4, 8192},
};

std::vector<std::uint32_t> outcome(KernelRunner& runner, const Launch& launch, std::size_t page) {
  EXPECT_EQ(runner.load(*launch.program, "rows.ptx"), "");
  std::vector<std::uint32_t> words(std::size_t{launch.grid} * launch.block, 0xA5A5A5A5);
  const std::uint64_t out = runner.allocate(words.size() * 4);
  runner.write(out, std::as_bytes(std::span(words)));
  // The last of all memory, and the input ends where it ends: a byte too many would fault.
  const std::size_t room = (launch.input_bytes + page - 1) / page * page;
  const std::uint64_t in = runner.allocate(room) + room - launch.input_bytes;
  Random random(launch.input_bytes);
  std::vector<std::byte> input(launch.input_bytes);
  for (std::byte& byte : input) byte = static_cast<std::byte>(random.integer(0, 255));
  runner.write(in, input);
  LaunchRequest request;
  request.kernel = "k";
  request.grid = {launch.grid, 1, 1};
  request.block = {launch.block, 1, 1};
  request.dynamic_shared_bytes = launch.tile_bytes;
  request.params.resize(24);
  std::memcpy(request.params.data(), &out, 8);
  std::memcpy(request.params.data() + 8, &in, 8);
  std::memcpy(request.params.data() + 16, &launch.first, 4);
  std::memcpy(request.params.data() + 20, &launch.base, 4);
  const LaunchStatus status = runner.launch(request);
  EXPECT_EQ(status.status, launch.expected) << status.message;
  if (launch.expected != Status::kDone) return {};
  runner.read(out, std::as_writable_bytes(std::span(words)));
  return words;
}

class FarLanes : public ::testing::TestWithParam<std::tuple<Way, Launch>> {};

TEST_P(FarLanes, GiveWhatTheOracleGives) {
  const auto& [way, launch] = GetParam();
  auto backend = software::make_backend(
      {.memory_bytes = std::uint64_t{1} << 26, .threads = 1, .always_coarsen = way.coarsens},
      software::make_jit_compiler({.passes = way.passes, .verify = true}));
  ASSERT_TRUE(backend) << backend.error().reason;
  OracleRunner oracle;
  DeviceRunner compiled(**backend);
  const auto expected = outcome(oracle, launch, 4);
  EXPECT_EQ(outcome(compiled, launch, std::size_t{2} << 20), expected);
}

INSTANTIATE_TEST_SUITE_P(Shapes, FarLanes,
                         ::testing::Combine(::testing::ValuesIn(kWays), ::testing::ValuesIn(kLaunches)),
                         [](const auto& instance) {
                           return std::string(std::get<0>(instance.param).name) + "_" +
                                  std::get<1>(instance.param).name;
                         });

}  // namespace
}  // namespace vgpu::testing::kernels
