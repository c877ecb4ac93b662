// The rows: see opcode_table.h.
#include "device/software/ptx/opcode_table.h"

#include <algorithm>
#include <array>
#include <unordered_map>

namespace vgpu::software::ptx {
namespace {

using enum Type;

constexpr TypeSet kInt16Up = type_set(kU16, kS16, kU32, kS32, kU64, kS64);
constexpr TypeSet kInt32Up = type_set(kU32, kS32, kU64, kS64);
constexpr TypeSet kInt32 = type_set(kU32, kS32);
constexpr TypeSet kSigned = type_set(kS16, kS32, kS64);
constexpr TypeSet kFloat = type_set(kF32, kF64);
constexpr TypeSet kHalf = type_set(kF16, kF16x2);
constexpr TypeSet kBits = type_set(kB16, kB32, kB64);
constexpr TypeSet kB3264 = type_set(kB32, kB64);
constexpr TypeSet kSelectable = kInt16Up | kFloat | kBits | type_set(kF16);
constexpr TypeSet kMemoryTypes = kSelectable | type_set(kB8, kU8, kS8, kF16x2);
constexpr TypeSet kCvtTypes = kInt16Up | type_set(kU8, kS8, kF16, kF32, kF64);

constexpr std::uint64_t kArithmetic = kGroupRounding | kGroupFtz | kGroupSat | kGroupCarry;
constexpr std::uint64_t kApproxFtz = kGroupApprox | kGroupFtz;
constexpr std::uint64_t kMemory =
    kGroupSpace | kGroupVector | kGroupVolatile | kGroupCache | kGroupOrder | kGroupScope | kGroupHint;
constexpr std::uint64_t kAtomics = kGroupSpace | kGroupAtomic | kGroupScope | kGroupOrder;

constexpr OpcodeInfo kOpcodes[] = {
    {"abs", Opcode::kAbs, kGroupFtz, kSigned | kFloat | kHalf, 0, "da"},
    {"activemask", Opcode::kActivemask, 0, type_set(kB32), 0, "n"},
    {"add", Opcode::kAdd, kArithmetic, kInt16Up | kFloat | kHalf, 0, "daa"},
    {"addc", Opcode::kAddc, kGroupCarry, kInt32Up, 0, "daa"},
    {"and", Opcode::kAnd, 0, kBits | type_set(kPred), 0, "daa"},
    {"atom", Opcode::kAtom, kAtomics, kInt32Up | kFloat | kB3264, 0, "dma?a"},
    {"bar", Opcode::kBarrier, kGroupBarrier | kGroupBarrierRed | kGroupWarp | kGroupCta | kGroupAligned,
     type_set(kPred, kU32), 0, ""},
    {"barrier", Opcode::kBarrier, kGroupBarrier | kGroupBarrierRed | kGroupCta | kGroupAligned,
     type_set(kPred, kU32), 0, ""},
    {"bfe", Opcode::kBfe, 0, kInt32Up, 0, "dauu"},
    {"bfi", Opcode::kBfi, 0, kB3264, 0, "daauu"},
    {"bfind", Opcode::kBfind, kGroupShiftAmount, kInt32Up, 0, "na"},
    {"bra", Opcode::kBra, kGroupUni, 0, 0, "l"},
    {"brev", Opcode::kBrev, 0, kB3264, 0, "da"},
    {"brx", Opcode::kBrxIdx, kGroupIdx | kGroupUni, 0, 0, ""},
    {"call", Opcode::kCall, kGroupUni, 0, 0, ""},
    {"clz", Opcode::kClz, 0, kB3264, 0, "na"},
    {"cnot", Opcode::kCnot, 0, kBits, 0, "da"},
    {"copysign", Opcode::kCopysign, 0, kFloat, 0, "daa"},
    {"cos", Opcode::kCos, kApproxFtz, type_set(kF32), 0, "da"},
    {"cvt", Opcode::kCvt, kGroupRounding | kGroupIntegralRounding | kGroupFtz | kGroupSat, kCvtTypes,
     kCvtTypes, ""},
    {"cvta", Opcode::kCvta, kGroupTo | kGroupSpace, type_set(kU32, kU64), 0, "da"},
    {"div", Opcode::kDiv, kGroupRounding | kApproxFtz, kInt16Up | kFloat, 0, "daa"},
    {"dp2a", Opcode::kDp2a, kGroupMulPart, kInt32, kInt32, "daaa"},
    {"dp4a", Opcode::kDp4a, 0, kInt32, kInt32, "daaa"},
    {"ex2", Opcode::kEx2, kApproxFtz, type_set(kF32), 0, "da"},
    {"exit", Opcode::kExit, 0, 0, 0, ""},
    {"fence", Opcode::kFence, kGroupOrder | kGroupScope, 0, 0, ""},
    {"fma", Opcode::kFma, kGroupRounding | kGroupFtz | kGroupSat, kFloat | kHalf, 0, "daaa"},
    {"fns", Opcode::kFns, 0, type_set(kB32), 0, "dauu"},
    {"isspacep", Opcode::kIsspacep, kGroupSpace, 0, 0, "oA"},
    {"ld", Opcode::kLd, kMemory | kGroupNc, kMemoryTypes, 0, ""},
    {"lg2", Opcode::kLg2, kApproxFtz, type_set(kF32), 0, "da"},
    {"lop3", Opcode::kLop3, 0, type_set(kB32), 0, "daaax"},
    {"mad", Opcode::kMad, kGroupMulPart | kGroupMulWide | kArithmetic, kInt16Up | kFloat, 0, "waac"},
    {"mad24", Opcode::kMad24, kGroupMulPart | kGroupSat, kInt32, 0, "daaa"},
    {"madc", Opcode::kMadc, kGroupMulPart | kGroupCarry, kInt32Up, 0, "daaa"},
    {"match", Opcode::kMatch, kGroupMatch | kGroupSync, kB3264, 0, "eau"},
    {"max", Opcode::kMax, kGroupFtz | kGroupNan, kInt16Up | kFloat, 0, "daa"},
    {"membar", Opcode::kMembar, kGroupLevel, 0, 0, ""},
    {"min", Opcode::kMin, kGroupFtz | kGroupNan, kInt16Up | kFloat, 0, "daa"},
    {"mov", Opcode::kMov, 0, kSelectable | type_set(kPred, kF16x2), 0, ""},
    {"mul", Opcode::kMul, kGroupMulPart | kGroupMulWide | kGroupRounding | kGroupFtz | kGroupSat,
     kInt16Up | kFloat | kHalf, 0, "waa"},
    {"mul24", Opcode::kMul24, kGroupMulPart, kInt32, 0, "daa"},
    {"nanosleep", Opcode::kNanosleep, 0, type_set(kU32), 0, "a"},
    {"neg", Opcode::kNeg, kGroupFtz, kSigned | kFloat | kHalf, 0, "da"},
    {"not", Opcode::kNot, 0, kBits | type_set(kPred), 0, "da"},
    {"or", Opcode::kOr, 0, kBits | type_set(kPred), 0, "daa"},
    {"popc", Opcode::kPopc, 0, kB3264, 0, "na"},
    {"prefetch", Opcode::kPrefetch, kGroupSpace | kGroupHint, 0, 0, "m"},
    {"prefetchu", Opcode::kPrefetch, kGroupHint, 0, 0, "m"},
    {"prmt", Opcode::kPrmt, kGroupPrmt, type_set(kB32), 0, "daau"},
    {"rcp", Opcode::kRcp, kGroupRounding | kApproxFtz, kFloat, 0, "da"},
    {"red", Opcode::kRed, kAtomics, kInt32Up | kFloat | kB3264, 0, "ma"},
    {"rem", Opcode::kRem, 0, kInt16Up, 0, "daa"},
    {"ret", Opcode::kRet, kGroupUni, 0, 0, ""},
    {"rsqrt", Opcode::kRsqrt, kApproxFtz, kFloat, 0, "da"},
    {"sad", Opcode::kSad, 0, kInt16Up, 0, "daaa"},
    {"selp", Opcode::kSelp, 0, kSelectable, 0, "daap"},
    {"set", Opcode::kSet, kGroupCompare | kGroupBool | kGroupFtz, type_set(kU32, kS32, kF32),
     kInt16Up | kFloat | kBits, "dss?p"},
    {"setp", Opcode::kSetp, kGroupCompare | kGroupBool | kGroupFtz,
     kInt16Up | kFloat | kBits | type_set(kF16), 0, "Paa?p"},
    {"shf", Opcode::kShf, kGroupShfMode | kGroupShfDirection, type_set(kB32), 0, "daau"},
    {"shfl", Opcode::kShfl, kGroupShuffle | kGroupSync, type_set(kB32), 0, "eauu?u"},
    {"shl", Opcode::kShl, 0, kBits, 0, "dau"},
    {"shr", Opcode::kShr, 0, kBits | kInt16Up, 0, "dau"},
    {"sin", Opcode::kSin, kApproxFtz, type_set(kF32), 0, "da"},
    {"slct", Opcode::kSlct, kGroupFtz, kSelectable, type_set(kS32, kF32), "daas"},
    {"sqrt", Opcode::kSqrt, kGroupRounding | kApproxFtz, kFloat, 0, "da"},
    {"st", Opcode::kSt, kMemory, kMemoryTypes, 0, ""},
    {"sub", Opcode::kSub, kArithmetic, kInt16Up | kFloat | kHalf, 0, "daa"},
    {"subc", Opcode::kSubc, kGroupCarry, kInt32Up, 0, "daa"},
    {"tanh", Opcode::kTanh, kGroupApprox, type_set(kF32), 0, "da"},
    {"testp", Opcode::kTestp, kGroupTestp, kFloat, 0, "oa"},
    {"trap", Opcode::kTrap, 0, 0, 0, ""},
    {"vote", Opcode::kVote, kGroupVote | kGroupSync, type_set(kPred, kB32), 0, ""},
    {"xor", Opcode::kXor, 0, kBits | type_set(kPred), 0, "daa"},
};

template <typename Enum>
constexpr std::uint8_t value(Enum e) {
  return static_cast<std::uint8_t>(e);
}

constexpr Modifier kModifiers[] = {
    {".rn", kGroupRounding, value(Rounding::kRn)},
    {".rz", kGroupRounding, value(Rounding::kRz)},
    {".rm", kGroupRounding, value(Rounding::kRm)},
    {".rp", kGroupRounding, value(Rounding::kRp)},
    {".rni", kGroupIntegralRounding, value(Rounding::kRni)},
    {".rzi", kGroupIntegralRounding, value(Rounding::kRzi)},
    {".rmi", kGroupIntegralRounding, value(Rounding::kRmi)},
    {".rpi", kGroupIntegralRounding, value(Rounding::kRpi)},
    {".ftz", kGroupFtz, 1},
    {".sat", kGroupSat, 1},
    {".approx", kGroupApprox, 1},
    {".full", kGroupApprox, 2},
    {".eq", kGroupCompare, value(Compare::kEq)},
    {".ne", kGroupCompare, value(Compare::kNe)},
    {".lt", kGroupCompare, value(Compare::kLt)},
    {".le", kGroupCompare, value(Compare::kLe)},
    {".gt", kGroupCompare, value(Compare::kGt)},
    {".ge", kGroupCompare, value(Compare::kGe)},
    {".equ", kGroupCompare, value(Compare::kEqu)},
    {".neu", kGroupCompare, value(Compare::kNeu)},
    {".ltu", kGroupCompare, value(Compare::kLtu)},
    {".leu", kGroupCompare, value(Compare::kLeu)},
    {".gtu", kGroupCompare, value(Compare::kGtu)},
    {".geu", kGroupCompare, value(Compare::kGeu)},
    {".num", kGroupCompare, value(Compare::kNum)},
    {".nan", kGroupCompare, value(Compare::kNan)},
    {".lo", kGroupCompare,
     value(Compare::kLt)},  // the unsigned spellings; behind .lt … so that those are printed
    {".ls", kGroupCompare, value(Compare::kLe)},
    {".hi", kGroupCompare, value(Compare::kGt)},
    {".hs", kGroupCompare, value(Compare::kGe)},
    {".and", kGroupBool, value(BoolOp::kAnd)},
    {".or", kGroupBool, value(BoolOp::kOr)},
    {".xor", kGroupBool, value(BoolOp::kXor)},
    {".lo", kGroupMulPart, value(MulPart::kLo)},
    {".hi", kGroupMulPart, value(MulPart::kHi)},
    {".wide", kGroupMulWide, value(MulPart::kWide)},
    {".ca", kGroupCache, value(CacheOp::kCa)},
    {".cg", kGroupCache, value(CacheOp::kCg)},
    {".cs", kGroupCache, value(CacheOp::kCs)},
    {".lu", kGroupCache, value(CacheOp::kLu)},
    {".cv", kGroupCache, value(CacheOp::kCv)},
    {".wb", kGroupCache, value(CacheOp::kWb)},
    {".wt", kGroupCache, value(CacheOp::kWt)},
    {".global", kGroupSpace, value(StateSpace::kGlobal)},
    {".const", kGroupSpace, value(StateSpace::kConst)},
    {".shared", kGroupSpace, value(StateSpace::kShared)},
    {".shared::cta", kGroupSpace, value(StateSpace::kShared)},
    {".local", kGroupSpace, value(StateSpace::kLocal)},
    {".param", kGroupSpace, value(StateSpace::kParam)},
    {".param::entry", kGroupSpace, value(StateSpace::kParam)},
    {".param::func", kGroupSpace, value(StateSpace::kParam)},
    {".v2", kGroupVector, 2},
    {".v4", kGroupVector, 4},
    {".volatile", kGroupVolatile, 1},
    {".nc", kGroupNc, 1},
    {".up", kGroupShuffle, value(ShuffleMode::kUp)},
    {".down", kGroupShuffle, value(ShuffleMode::kDown)},
    {".bfly", kGroupShuffle, value(ShuffleMode::kBfly)},
    {".idx", kGroupShuffle, value(ShuffleMode::kIdx)},
    {".all", kGroupVote, value(VoteMode::kAll)},
    {".any", kGroupVote, value(VoteMode::kAny)},
    {".uni", kGroupVote, value(VoteMode::kUni)},
    {".ballot", kGroupVote, value(VoteMode::kBallot)},
    {".sync", kGroupBarrier, value(BarrierOp::kSync)},
    {".arrive", kGroupBarrier, value(BarrierOp::kArrive)},
    {".red", kGroupBarrier, 0xFF},
    {".and", kGroupBarrierRed, value(BarrierOp::kRedAnd)},
    {".or", kGroupBarrierRed, value(BarrierOp::kRedOr)},
    {".popc", kGroupBarrierRed, value(BarrierOp::kRedPopc)},
    {".add", kGroupAtomic, value(AtomicOp::kAdd)},
    {".exch", kGroupAtomic, value(AtomicOp::kExch)},
    {".cas", kGroupAtomic, value(AtomicOp::kCas)},
    {".min", kGroupAtomic, value(AtomicOp::kMin)},
    {".max", kGroupAtomic, value(AtomicOp::kMax)},
    {".and", kGroupAtomic, value(AtomicOp::kAnd)},
    {".or", kGroupAtomic, value(AtomicOp::kOr)},
    {".xor", kGroupAtomic, value(AtomicOp::kXor)},
    {".inc", kGroupAtomic, value(AtomicOp::kInc)},
    {".dec", kGroupAtomic, value(AtomicOp::kDec)},
    {".cta", kGroupScope, value(Scope::kCta)},
    {".gpu", kGroupScope, value(Scope::kGpu)},
    {".sys", kGroupScope, value(Scope::kSys)},
    {".cta", kGroupLevel, value(Scope::kCta)},
    {".gl", kGroupLevel, value(Scope::kGpu)},
    {".sys", kGroupLevel, value(Scope::kSys)},
    {".weak", kGroupOrder, value(MemoryOrder::kWeak)},
    {".relaxed", kGroupOrder, value(MemoryOrder::kRelaxed)},
    {".acquire", kGroupOrder, value(MemoryOrder::kAcquire)},
    {".release", kGroupOrder, value(MemoryOrder::kRelease)},
    {".acq_rel", kGroupOrder, value(MemoryOrder::kAcqRel)},
    {".sc", kGroupOrder, value(MemoryOrder::kSc)},
    {".f4e", kGroupPrmt, value(PrmtMode::kF4e)},
    {".b4e", kGroupPrmt, value(PrmtMode::kB4e)},
    {".rc8", kGroupPrmt, value(PrmtMode::kRc8)},
    {".ecl", kGroupPrmt, value(PrmtMode::kEcl)},
    {".ecr", kGroupPrmt, value(PrmtMode::kEcr)},
    {".rc16", kGroupPrmt, value(PrmtMode::kRc16)},
    {".finite", kGroupTestp, value(TestpOp::kFinite)},
    {".infinite", kGroupTestp, value(TestpOp::kInfinite)},
    {".number", kGroupTestp, value(TestpOp::kNumber)},
    {".notanumber", kGroupTestp, value(TestpOp::kNotANumber)},
    {".normal", kGroupTestp, value(TestpOp::kNormal)},
    {".subnormal", kGroupTestp, value(TestpOp::kSubnormal)},
    {".uni", kGroupUni, 1},
    {".sync", kGroupSync, 1},
    {".aligned", kGroupAligned, 1},
    {".cc", kGroupCarry, 1},
    {".clamp", kGroupShfMode, 0},
    {".wrap", kGroupShfMode, 1},
    {".l", kGroupShfDirection, 0},
    {".r", kGroupShfDirection, 1},
    {".to", kGroupTo, 1},
    {".shiftamt", kGroupShiftAmount, 1},
    {".NaN", kGroupNan, 1},
    {".all", kGroupMatch, 0},
    {".any", kGroupMatch, 1},
    {".warp", kGroupWarp, 1},
    {".cta", kGroupCta, 1},
    {".idx", kGroupIdx, 1},
    {".L1", kGroupHint, 0},
    {".L2", kGroupHint, 0},
    {".L1::evict_normal", kGroupHint, 0},
    {".L1::evict_unchanged", kGroupHint, 0},
    {".L1::evict_first", kGroupHint, 0},
    {".L1::evict_last", kGroupHint, 0},
    {".L1::no_allocate", kGroupHint, 0},
    {".L2::64B", kGroupHint, 0},
    {".L2::128B", kGroupHint, 0},
    {".L2::256B", kGroupHint, 0},
};

struct TypeName {
  std::string_view word;
  Type type;
};
constexpr TypeName kTypes[] = {
    {".pred", kPred}, {".b8", kB8},   {".b16", kB16}, {".b32", kB32}, {".b64", kB64},     {".u8", kU8},
    {".u16", kU16},   {".u32", kU32}, {".u64", kU64}, {".s8", kS8},   {".s16", kS16},     {".s32", kS32},
    {".s64", kS64},   {".f16", kF16}, {".f32", kF32}, {".f64", kF64}, {".f16x2", kF16x2},
};

// In the order of SpecialRegister, up to %envreg.
constexpr std::string_view kSpecialNames[] = {
    "%tid.x",           "%tid.y",
    "%tid.z",           "%ntid.x",
    "%ntid.y",          "%ntid.z",
    "%ctaid.x",         "%ctaid.y",
    "%ctaid.z",         "%nctaid.x",
    "%nctaid.y",        "%nctaid.z",
    "%laneid",          "%warpid",
    "%nwarpid",         "%smid",
    "%nsmid",           "%gridid",
    "%lanemask_eq",     "%lanemask_le",
    "%lanemask_lt",     "%lanemask_ge",
    "%lanemask_gt",     "%clock",
    "%clock_hi",        "%clock64",
    "%globaltimer",     "%globaltimer_lo",
    "%globaltimer_hi",  "%dynamic_smem_size",
    "%total_smem_size", "%envreg0",
    "%envreg1",         "%envreg2",
    "%envreg3",         "%envreg4",
    "%envreg5",         "%envreg6",
    "%envreg7",         "%envreg8",
    "%envreg9",         "%envreg10",
    "%envreg11",        "%envreg12",
    "%envreg13",        "%envreg14",
    "%envreg15",        "%envreg16",
    "%envreg17",        "%envreg18",
    "%envreg19",        "%envreg20",
    "%envreg21",        "%envreg22",
    "%envreg23",        "%envreg24",
    "%envreg25",        "%envreg26",
    "%envreg27",        "%envreg28",
    "%envreg29",        "%envreg30",
    "%envreg31",
};
static_assert(std::size(kSpecialNames) == static_cast<std::size_t>(SpecialRegister::kEnvreg31) + 1);

}  // namespace

const OpcodeInfo* find_opcode(std::string_view name) {
  static const auto map = [] {
    std::unordered_map<std::string_view, const OpcodeInfo*> m;
    for (const OpcodeInfo& info : kOpcodes) m.emplace(info.name, &info);
    return m;
  }();
  const auto found = map.find(name);
  return found == map.end() ? nullptr : found->second;
}

const OpcodeInfo& info_of(Opcode opcode) {
  const auto* found = std::ranges::find(kOpcodes, opcode, &OpcodeInfo::opcode);
  static constexpr OpcodeInfo kBarWarp{"bar.warp.sync", Opcode::kBarWarpSync, 0, 0, 0, "u"};
  return found == std::end(kOpcodes) ? kBarWarp : *found;
}

const Modifier* find_modifier(std::string_view word, std::uint64_t groups) {
  static const auto map = [] {
    std::unordered_multimap<std::string_view, const Modifier*> m;
    for (const Modifier& modifier : kModifiers) m.emplace(modifier.word, &modifier);
    return m;
  }();
  const auto [first, last] = map.equal_range(word);
  for (auto it = first; it != last; ++it) {
    if ((it->second->group & groups) != 0) return it->second;
  }
  return nullptr;
}

std::string_view modifier_word(ModifierGroup group, std::uint8_t value) {
  for (const Modifier& modifier : kModifiers) {
    if (modifier.group == group && modifier.value == value) return modifier.word;
  }
  return {};
}

Type find_type(std::string_view word) {
  for (const TypeName& entry : kTypes) {
    if (entry.word == word) return entry.type;
  }
  return kNone;
}

std::optional<SpecialRegister> find_special(std::string_view name) {
  const auto* found = std::ranges::find(kSpecialNames, name);
  if (found == std::end(kSpecialNames)) return std::nullopt;
  return static_cast<SpecialRegister>(found - std::begin(kSpecialNames));
}

std::string_view name_of(SpecialRegister special) {
  return kSpecialNames[static_cast<std::size_t>(special)];
}

std::uint32_t bits_of(SpecialRegister special) {
  return special == SpecialRegister::kClock64 || special == SpecialRegister::kGlobaltimer ||
                 special == SpecialRegister::kGridid
             ? 64
             : 32;
}

std::string_view name_of(StateSpace space) {
  const std::string_view word = modifier_word(kGroupSpace, static_cast<std::uint8_t>(space));
  return word.empty() ? "generic" : word.substr(1);
}

std::string_view name_of(Opcode opcode) {
  return info_of(opcode).name;
}

std::string_view name_of(Type type) {
  for (const TypeName& entry : kTypes) {
    if (entry.type == type) return entry.word.substr(1);
  }
  return "none";
}

}  // namespace vgpu::software::ptx
