// The grammar of PTX instructions as data: per opcode name the modifiers, types and operands it takes.
// Adding an instruction is one row here (and its meaning in the oracle and in the code generator).
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "device/software/ptx/ast.h"

namespace vgpu::software::ptx {

// A set of types: bit n is Type(n).
using TypeSet = std::uint32_t;
template <typename... Types>
[[nodiscard]] constexpr TypeSet type_set(Types... types) {
  return ((TypeSet{1} << static_cast<unsigned>(types)) | ... | TypeSet{0});
}
[[nodiscard]] constexpr bool contains(TypeSet set, Type type) {
  return ((set >> static_cast<unsigned>(type)) & 1) != 0;
}

// Groups of modifiers; an instruction may carry at most one word of each group.
enum ModifierGroup : std::uint64_t {
  kGroupRounding = 1ULL << 0,
  kGroupIntegralRounding = 1ULL << 1,
  kGroupFtz = 1ULL << 2,
  kGroupSat = 1ULL << 3,
  kGroupApprox = 1ULL << 4,  // .approx, .full
  kGroupCompare = 1ULL << 5,
  kGroupBool = 1ULL << 6,
  kGroupMulPart = 1ULL << 7,
  kGroupMulWide = 1ULL << 8,
  kGroupCache = 1ULL << 9,
  kGroupSpace = 1ULL << 10,
  kGroupVector = 1ULL << 11,
  kGroupVolatile = 1ULL << 12,
  kGroupNc = 1ULL << 13,
  kGroupShuffle = 1ULL << 14,
  kGroupVote = 1ULL << 15,
  kGroupBarrier = 1ULL << 16,  // .sync, .arrive, .red of bar and barrier
  kGroupBarrierRed = 1ULL << 17,
  kGroupAtomic = 1ULL << 18,
  kGroupScope = 1ULL << 19,
  kGroupOrder = 1ULL << 20,
  kGroupPrmt = 1ULL << 21,
  kGroupTestp = 1ULL << 22,
  kGroupUni = 1ULL << 23,
  kGroupSync = 1ULL << 24,
  kGroupAligned = 1ULL << 25,
  kGroupCarry = 1ULL << 26,
  kGroupShfMode = 1ULL << 27,
  kGroupShfDirection = 1ULL << 28,
  kGroupTo = 1ULL << 29,
  kGroupShiftAmount = 1ULL << 30,
  kGroupNan = 1ULL << 31,
  kGroupMatch = 1ULL << 32,
  kGroupHint = 1ULL << 33,   // eviction and prefetch hints: accepted, any number, dropped
  kGroupWarp = 1ULL << 34,   // bar.warp
  kGroupCta = 1ULL << 35,    // barrier.cta
  kGroupIdx = 1ULL << 36,    // brx.idx
  kGroupLevel = 1ULL << 37,  // membar's .cta .gl .sys
};

struct Modifier {
  std::string_view word;  // with the dot
  ModifierGroup group;
  std::uint8_t value;  // of the group's enum
};

// Operands, one letter each:
//   d  destination of the primary type           w  as d, twice as wide with .wide
//   e  destination, `d|p` allowed                P  predicate destination, `p|q` allowed
//   n  32-bit destination                        o  predicate destination
//   a  source of the primary type                c  as a, twice as wide with .wide
//   s  source of the source type                 u  32-bit source
//   p  predicate source, `!` allowed             m  memory
//   x  immediate 0…255                           l  label
//   A  as a, but may be wider (cvt, cvta)
//   ?  what follows is optional
// An empty pattern with kGroup… handled by hand: mov, ld, st, call, bar, brx.
struct OpcodeInfo {
  std::string_view name;
  Opcode opcode;
  std::uint64_t modifiers;
  TypeSet types;         // of the primary type; 0: the instruction has none
  TypeSet source_types;  // of the second type; 0: none
  std::string_view operands;
};

// nullptr for an unknown name.
[[nodiscard]] const OpcodeInfo* find_opcode(std::string_view name);
[[nodiscard]] const OpcodeInfo& info_of(Opcode opcode);
// The meaning of `word` among the groups allowed, or nullptr.
[[nodiscard]] const Modifier* find_modifier(std::string_view word, std::uint64_t groups);
// The word of a group's value, with the dot; empty if there is none.
[[nodiscard]] std::string_view modifier_word(ModifierGroup group, std::uint8_t value);
// kNone for no type. `word` with the dot.
[[nodiscard]] Type find_type(std::string_view word);
// `name` with its component: "%tid.x". No value if it is no special register.
[[nodiscard]] std::optional<SpecialRegister> find_special(std::string_view name);
[[nodiscard]] std::string_view name_of(SpecialRegister special);
// Bits a special register yields: 32 or 64.
[[nodiscard]] std::uint32_t bits_of(SpecialRegister special);
[[nodiscard]] std::string_view name_of(StateSpace space);

}  // namespace vgpu::software::ptx
