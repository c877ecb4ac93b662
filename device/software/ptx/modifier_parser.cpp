// An instruction's modifiers, word by word; rules between them: modifier_rules.cpp.
#include "device/software/ptx/function_parser.h"

namespace vgpu::software::ptx {

bool FunctionParser::parse_modifiers(const Token& opcode) {
  seen_groups_ = 0;
  type_count_ = 0;
  while (peek().kind == TokenKind::kDotWord) {
    const Token word = next();
    const auto unknown = [&] {
      return fail(word, ErrorKind::kUnsupported,
                  "unknown modifier " + quoted(word.text) + " of `" + std::string(opcode.text) + "`");
    };
    if (const Type type = find_type(word.text); type != Type::kNone) {
      const TypeSet allowed = type_count_ == 0 ? info_->types : info_->source_types;
      if (type_count_ > 1 || !contains(allowed, type)) {
        return fail(word, ErrorKind::kUnsupported,
                    "type " + quoted(word.text) + " does not fit `" + std::string(opcode.text) + "`");
      }
      types_[type_count_++] = type;
      continue;
    }
    // A word may have two meanings for one opcode (bar.sync): the one whose group is still free is meant.
    const Modifier* modifier = find_modifier(word.text, info_->modifiers & ~seen_groups_);
    if (modifier == nullptr) {
      if (find_modifier(word.text, info_->modifiers) == nullptr) return unknown();
      return fail(word, "modifier " + quoted(word.text) + " excludes one before it");
    }
    if (modifier->group != kGroupHint) seen_groups_ |= modifier->group;
    const std::uint8_t value = modifier->value;
    const auto flag = [&](Flag bit) { current_.flags = static_cast<std::uint16_t>(current_.flags | bit); };
    switch (modifier->group) {
      case kGroupRounding:
      case kGroupIntegralRounding:
        current_.rounding = static_cast<Rounding>(value);
        break;
      case kGroupFtz:
        flag(kFlagFtz);
        break;
      case kGroupSat:
        flag(kFlagSat);
        break;
      case kGroupApprox:
        flag(value == 1 ? kFlagApprox : kFlagFull);
        break;
      case kGroupCompare:
        current_.compare = static_cast<Compare>(value);
        break;
      case kGroupBool:
        current_.bool_op = static_cast<BoolOp>(value);
        break;
      case kGroupMulPart:
      case kGroupMulWide:
        current_.mul_part = static_cast<MulPart>(value);
        break;
      case kGroupCache:
        current_.cache = static_cast<CacheOp>(value);
        break;
      case kGroupSpace:
        current_.space = static_cast<StateSpace>(value);
        break;
      case kGroupVector:
        current_.vector = value;
        break;
      case kGroupVolatile:
        flag(kFlagVolatile);
        break;
      case kGroupNc:
        flag(kFlagNc);
        break;
      case kGroupShuffle:
        current_.shuffle = static_cast<ShuffleMode>(value);
        break;
      case kGroupVote:
        current_.vote = static_cast<VoteMode>(value);
        break;
      case kGroupBarrier:
      case kGroupBarrierRed:
        current_.barrier = static_cast<BarrierOp>(value);
        break;
      case kGroupAtomic:
        current_.atomic = static_cast<AtomicOp>(value);
        break;
      case kGroupScope:
      case kGroupLevel:
        current_.scope = static_cast<Scope>(value);
        break;
      case kGroupOrder:
        current_.order = static_cast<MemoryOrder>(value);
        break;
      case kGroupPrmt:
        current_.prmt = static_cast<PrmtMode>(value);
        break;
      case kGroupTestp:
        current_.testp = static_cast<TestpOp>(value);
        break;
      case kGroupUni:
        flag(kFlagUni);
        break;
      case kGroupSync:
        flag(kFlagSync);
        break;
      case kGroupAligned:
        flag(kFlagAligned);
        break;
      case kGroupCarry:
        flag(kFlagCarryOut);
        break;
      case kGroupShfMode:
        if (value != 0) flag(kFlagWrap);
        break;
      case kGroupShfDirection:
        if (value != 0) flag(kFlagRight);
        break;
      case kGroupTo:
        flag(kFlagToSpace);
        break;
      case kGroupShiftAmount:
        flag(kFlagShiftAmount);
        break;
      case kGroupNan:
        flag(kFlagNan);
        break;
      case kGroupMatch:
        if (value != 0) flag(kFlagMatchAny);
        break;
      case kGroupHint:
      case kGroupWarp:
      case kGroupCta:
      case kGroupIdx:
        break;
    }
  }
  if (type_count_ > 0) current_.type = types_[0];
  if (type_count_ > 1) current_.source_type = types_[1];
  return true;
}

}  // namespace vgpu::software::ptx
