// Which modifiers and types go together: after these checks a consumer meets only combinations that have a
// meaning, with defaults filled in (add.f32 is add.rn.f32).
#include "device/software/ptx/function_parser.h"

namespace vgpu::software::ptx {

bool FunctionParser::check_modifiers(const Token& at) {
  Instruction& i = current_;
  const Type type = i.type;
  const bool floating = is_float(type);
  const auto seen = [&](std::uint64_t groups) { return (seen_groups_ & groups) != 0; };
  const auto refuse = [&](std::string_view reason) {
    return fail(at, "`" + std::string(info_->name) + "`: " + std::string(reason));
  };
  const auto unsupported = [&](std::string_view reason) {
    return fail(at, ErrorKind::kUnsupported,
                "`" + std::string(info_->name) + "`: unsupported " + std::string(reason));
  };

  // bar carries the two groups of an opcode of its own.
  if (i.opcode == Opcode::kBarrier) {
    if (seen(kGroupWarp)) {
      if (i.barrier != BarrierOp::kSync) return refuse("bar.warp takes .sync");
      i.opcode = Opcode::kBarWarpSync;
      return true;
    }
    const bool reduces = i.barrier >= BarrierOp::kRedAnd;
    if (i.barrier == BarrierOp::kNone || static_cast<std::uint8_t>(i.barrier) == 0xFF ||
        reduces != seen(kGroupBarrierRed)) {
      return refuse("needs .sync, .arrive or .red with .and, .or or .popc");
    }
    if (reduces != (type_count_ == 1) ||
        (reduces && type != (i.barrier == BarrierOp::kRedPopc ? Type::kU32 : Type::kPred))) {
      return refuse("the type must be .pred for .and and .or, .u32 for .popc");
    }
    if (info_->name == "bar") i.flags = static_cast<std::uint16_t>(i.flags | kFlagAligned);
    return true;
  }

  const std::size_t types_needed = info_->types == 0 ? 0 : info_->source_types == 0 ? 1 : 2;
  if (type_count_ != types_needed) return refuse("needs " + std::to_string(types_needed) + " types");

  // ftz is about f32, wherever it stands; rounding, .sat and .cc depend on the type too.
  const Type compared = i.opcode == Opcode::kSet ? i.source_type : type;
  if (seen(kGroupFtz) && i.opcode != Opcode::kCvt && compared != Type::kF32 && compared != Type::kF16 &&
      compared != Type::kF16x2 && !(i.opcode == Opcode::kSlct && i.source_type == Type::kF32) &&
      !(type == Type::kF64 && seen(kGroupApprox))) {
    return refuse(".ftz needs .f32");
  }
  if (seen(kGroupRounding) && i.opcode != Opcode::kCvt && !floating)
    return refuse("a rounding mode needs a float type");
  if (seen(kGroupRounding) && seen(kGroupApprox)) return refuse("a rounding mode excludes .approx");
  if (seen(kGroupRounding) && (type == Type::kF16 || type == Type::kF16x2) && i.opcode != Opcode::kCvt &&
      i.rounding != Rounding::kRn) {
    return refuse("f16 arithmetic rounds to nearest");
  }
  if (seen(kGroupCarry) && (floating || bits_of(type) < 32))
    return refuse(".cc needs a 32 or 64 bit integer type");

  switch (i.opcode) {
    case Opcode::kAdd:
    case Opcode::kSub:
    case Opcode::kMul:
    case Opcode::kMad:
    case Opcode::kFma: {
      const bool product = i.opcode == Opcode::kMul || i.opcode == Opcode::kMad;
      if (seen(kGroupMulPart) && seen(kGroupMulWide)) return refuse(".wide excludes .lo and .hi");
      if (product && floating == (i.mul_part != MulPart::kNone)) {
        return refuse("needs .lo, .hi or .wide for integers, and none of them for floats");
      }
      if (i.mul_part == MulPart::kWide && bits_of(type) == 64) return refuse(".wide needs 16 or 32 bits");
      if (i.opcode == Opcode::kFma && !seen(kGroupRounding)) return refuse("needs a rounding mode");
      if (seen(kGroupSat)) {
        const bool integer =
            type == Type::kS32 && ((!product) || (i.opcode == Opcode::kMad && i.mul_part == MulPart::kHi));
        if (!integer && (!floating || type == Type::kF64)) return refuse(".sat does not fit the type");
      }
      if (seen(kGroupCarry) && i.mul_part == MulPart::kWide) return refuse(".cc excludes .wide");
      if (floating && i.rounding == Rounding::kNone) i.rounding = Rounding::kRn;
      return true;
    }
    case Opcode::kMadc:
    case Opcode::kMul24:
    case Opcode::kDp2a:
      return i.mul_part != MulPart::kNone || refuse("needs .lo or .hi");
    case Opcode::kMad24:
      if (i.mul_part == MulPart::kNone) return refuse("needs .lo or .hi");
      return !seen(kGroupSat) || (i.mul_part == MulPart::kHi && type == Type::kS32) ||
             refuse(".sat needs .hi and .s32");
    case Opcode::kDiv:
      if (floating != (seen(kGroupRounding | kGroupApprox))) {
        return refuse("needs a rounding mode, .approx or .full for floats, and none of them for integers");
      }
      return type != Type::kF64 || seen(kGroupRounding) || refuse("of f64 needs a rounding mode");
    case Opcode::kRcp:
    case Opcode::kSqrt:
      if (i.has(kFlagFull)) return refuse(".full belongs to div");
      return seen(kGroupRounding | kGroupApprox) || refuse("needs a rounding mode or .approx");
    case Opcode::kRsqrt:
    case Opcode::kSin:
    case Opcode::kCos:
    case Opcode::kEx2:
    case Opcode::kLg2:
    case Opcode::kTanh:
      return i.has(kFlagApprox) || refuse("needs .approx");
    case Opcode::kMin:
    case Opcode::kMax:
      return !seen(kGroupNan) || type == Type::kF32 || refuse(".NaN needs .f32");
    case Opcode::kSet:
    case Opcode::kSetp: {
      if (i.compare == Compare::kNone) return refuse("needs a comparison");
      const bool equality = i.compare == Compare::kEq || i.compare == Compare::kNe;
      if (!is_float(compared) && i.compare > Compare::kGe)
        return refuse("this comparison needs a float type");
      return !is_untyped(compared) || equality || refuse("bits compare with .eq and .ne only");
    }
    case Opcode::kCvt: {
      const Type source = i.source_type;
      const bool from_float = is_float(source);
      const bool rounds = seen(kGroupRounding);
      const bool rounds_to_integer = seen(kGroupIntegralRounding);
      if (rounds && rounds_to_integer) return refuse("one rounding mode only");
      if (seen(kGroupFtz) && type != Type::kF32 && source != Type::kF32) return refuse(".ftz needs .f32");
      if (floating && from_float) {
        const bool narrows = bits_of(type) < bits_of(source);
        if (narrows != rounds) return refuse("a rounding mode is needed to a narrower float, and only there");
        if (rounds_to_integer && type != source)
          return refuse("rounding to an integral value keeps the type");
        return true;
      }
      if (from_float) return rounds_to_integer || refuse("needs .rni, .rzi, .rmi or .rpi");
      if (floating) return (rounds && !rounds_to_integer) || refuse("needs .rn, .rz, .rm or .rp");
      return !(rounds || rounds_to_integer) || refuse("a rounding mode needs a float type");
    }
    case Opcode::kLd:
    case Opcode::kSt:
      if (i.vector * bytes_of(type) > 16) return refuse("a vector of more than 16 bytes");
      if (i.has(kFlagNc) && i.space != StateSpace::kGlobal) return refuse(".nc needs .global");
      if (i.opcode == Opcode::kSt && i.space == StateSpace::kConst) return refuse("cannot write .const");
      if (seen(kGroupVolatile) + seen(kGroupOrder) + seen(kGroupCache) > 1 &&
          !(seen(kGroupOrder) && i.order == MemoryOrder::kWeak)) {
        return refuse("one of .volatile, an order and a cache operator only");
      }
      return true;
    case Opcode::kAtom:
    case Opcode::kRed: {
      if (i.space == StateSpace::kConst || i.space == StateSpace::kLocal || i.space == StateSpace::kParam) {
        return refuse("works on generic, .global and .shared addresses");
      }
      bool fits = false;
      switch (i.atomic) {
        case AtomicOp::kNone:
          return refuse("needs an operation");
        case AtomicOp::kAdd:
          fits = type != Type::kS64 && !is_untyped(type);
          break;
        case AtomicOp::kExch:
        case AtomicOp::kCas:
          if (i.opcode == Opcode::kRed) return refuse("takes neither .exch nor .cas");
          fits = is_untyped(type);
          break;
        case AtomicOp::kAnd:
        case AtomicOp::kOr:
        case AtomicOp::kXor:
          fits = is_untyped(type);
          break;
        case AtomicOp::kMin:
        case AtomicOp::kMax:
          fits = !is_untyped(type) && !floating;
          break;
        case AtomicOp::kInc:
        case AtomicOp::kDec:
          fits = type == Type::kU32;
          break;
      }
      return fits || refuse("the type does not fit the operation");
    }
    case Opcode::kCvta:
    case Opcode::kIsspacep:
      return seen(kGroupSpace) || refuse("needs a state space");
    case Opcode::kShf:
      return (seen(kGroupShfDirection) && seen(kGroupShfMode)) ||
             refuse("needs .l or .r, and .wrap or .clamp");
    case Opcode::kShfl:
      return i.shuffle != ShuffleMode::kNone || refuse("needs .up, .down, .bfly or .idx");
    case Opcode::kVote: {
      if (i.vote == VoteMode::kNone) return refuse("needs .all, .any, .uni or .ballot");
      const bool ballot = i.vote == VoteMode::kBallot;
      return ballot == (type == Type::kB32) || refuse("the type must be .b32 for .ballot, else .pred");
    }
    case Opcode::kMatch:
      return (seen(kGroupMatch) && seen(kGroupSync)) || refuse("needs .all or .any, and .sync");
    case Opcode::kTestp:
      return i.testp != TestpOp::kNone || refuse("needs a test");
    case Opcode::kBrxIdx:
      return seen(kGroupIdx) || refuse("needs .idx");
    case Opcode::kMembar:
      return i.scope != Scope::kNone || refuse("needs .cta, .gl or .sys");
    case Opcode::kFence:
      return ((i.order == MemoryOrder::kSc || i.order == MemoryOrder::kAcqRel) && i.scope != Scope::kNone) ||
             unsupported("kind of fence");
    case Opcode::kAbs:
    case Opcode::kNeg:
      return true;
    default:
      return true;
  }
}

}  // namespace vgpu::software::ptx
