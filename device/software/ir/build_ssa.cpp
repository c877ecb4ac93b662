// SSA construction after Cytron et al., pruned by liveness: only where a register is live does it get a phi.
#include <algorithm>

#include "device/software/ir/cfg.h"
#include "device/software/ir/passes.h"

namespace vgpu::software::ir {

namespace {

class SsaBuilder {
 public:
  explicit SsaBuilder(Function& function) : function_(function), tree_(dominators(function)) {}

  void run() {
    rebuild_preds(function_);
    tree_ = dominators(function_);
    collect();
    place_phis();
    rename();
    function_.registers.clear();
  }

 private:
  // Per register: blocks that write it, and blocks that read it before they write it.
  void collect() {
    writes_.resize(function_.registers.size());
    exposed_.resize(function_.registers.size());
    std::vector<BlockId> written(function_.registers.size(), kNone);
    std::vector<BlockId> read(function_.registers.size(), kNone);
    for (const BlockId block : reverse_post_order(function_)) {
      for (const InstructionId id : function_.blocks[block].body) {
        const Instruction& inst = function_.instructions[id];
        const auto reg = static_cast<std::size_t>(inst.imm);
        if (inst.op == Op::kRegRead && written[reg] != block && read[reg] != block) {
          read[reg] = block;
          exposed_[reg].push_back(block);
        } else if (inst.op == Op::kRegWrite && written[reg] != block) {
          written[reg] = block;
          writes_[reg].push_back(block);
        }
      }
    }
  }

  std::vector<std::vector<BlockId>> dominance_frontiers() const {
    std::vector<std::vector<BlockId>> frontier(function_.blocks.size());
    for (BlockId block = 0; block < function_.blocks.size(); ++block) {
      const auto& preds = function_.blocks[block].preds;
      if (preds.size() < 2) continue;
      for (BlockId runner : preds) {
        while (runner != tree_.idom[block]) {
          if (frontier[runner].empty() || frontier[runner].back() != block) frontier[runner].push_back(block);
          runner = tree_.idom[runner];
        }
      }
    }
    return frontier;
  }

  void place_phis() {
    const auto frontier = dominance_frontiers();
    const std::size_t count = function_.blocks.size();
    std::vector<std::uint32_t> live(count, kNone);  // marked with the register
    std::vector<std::uint32_t> placed(count, kNone);
    std::vector<std::uint32_t> killed(count, kNone);
    phi_register_.clear();
    for (std::uint32_t reg = 0; reg < function_.registers.size(); ++reg) {
      if (writes_[reg].empty() || exposed_[reg].empty()) continue;
      for (const BlockId block : writes_[reg]) killed[block] = reg;
      std::vector<BlockId> work = exposed_[reg];
      for (const BlockId block : work) live[block] = reg;
      while (!work.empty()) {
        const BlockId block = work.back();
        work.pop_back();
        for (const BlockId pred : function_.blocks[block].preds) {
          if (killed[pred] == reg || live[pred] == reg) continue;
          live[pred] = reg;
          work.push_back(pred);
        }
      }
      work = writes_[reg];
      while (!work.empty()) {
        const BlockId block = work.back();
        work.pop_back();
        for (const BlockId join : frontier[block]) {
          if (placed[join] == reg || live[join] != reg) continue;
          placed[join] = reg;
          Instruction phi;
          phi.op = Op::kPhi;
          phi.type = function_.registers[reg];
          phi.block = join;
          phi.line = function_.blocks[join].line;
          phi.operands.assign(function_.blocks[join].preds.size(), kNone);
          const InstructionId id = function_.create(std::move(phi), 1);
          function_.blocks[join].phis.push_back(id);
          phi_register_.resize(function_.instructions.size(), kNone);
          phi_register_[id] = reg;
          work.push_back(join);
        }
      }
    }
    phi_register_.resize(function_.instructions.size(), kNone);
  }

  ValueId current(std::uint32_t reg) {
    return current_[reg] == kNone ? function_.undef(function_.registers[reg]) : current_[reg];
  }

  void set(std::uint32_t reg, ValueId value) {
    undo_.emplace_back(reg, current_[reg]);
    current_[reg] = value;
  }

  void rename_block(BlockId id) {
    for (const InstructionId phi : function_.blocks[id].phis) {
      set(phi_register_[phi], function_.instructions[phi].results[0]);
    }
    std::vector<InstructionId> body;
    for (const InstructionId i : function_.blocks[id].body) {
      for (ValueId& operand : function_.instructions[i].operands) operand = resolve(operand);
      const Instruction& inst = function_.instructions[i];
      if (inst.op == Op::kRegRead) {
        const ValueId result = inst.results[0];
        alias_.resize(function_.values.size() + 1, kNone);
        const ValueId value = current(static_cast<std::uint32_t>(inst.imm));
        alias_[result] = value;
      } else if (inst.op == Op::kRegWrite) {
        set(static_cast<std::uint32_t>(inst.imm), inst.operands[0]);
      } else {
        body.push_back(i);
      }
    }
    Block& block = function_.blocks[id];
    block.body = std::move(body);
    if (block.condition != kNone) block.condition = resolve(block.condition);
    for (const BlockId succ : function_.blocks[id].succs) {
      const auto& preds = function_.blocks[succ].preds;
      const auto slot = static_cast<std::size_t>(std::ranges::find(preds, id) - preds.begin());
      for (const InstructionId phi : function_.blocks[succ].phis) {
        const ValueId value = current(phi_register_[phi]);
        function_.instructions[phi].operands[slot] = value;
      }
    }
  }

  ValueId resolve(ValueId value) const {
    return value < alias_.size() && alias_[value] != kNone ? alias_[value] : value;
  }

  void rename() {
    current_.assign(function_.registers.size(), kNone);
    std::vector<std::vector<BlockId>> children(function_.blocks.size());
    for (BlockId i = 1; i < function_.blocks.size(); ++i) {
      if (tree_.idom[i] != kNone) children[tree_.idom[i]].push_back(i);
    }
    struct Visit {
      BlockId block;
      std::size_t next;
      std::size_t mark;
    };
    std::vector<Visit> stack{{0, 0, 0}};
    rename_block(0);
    while (!stack.empty()) {
      Visit& top = stack.back();
      if (top.next < children[top.block].size()) {
        const BlockId child = children[top.block][top.next++];
        stack.push_back({child, 0, undo_.size()});
        rename_block(child);
      } else {
        while (undo_.size() > top.mark) {
          current_[undo_.back().first] = undo_.back().second;
          undo_.pop_back();
        }
        stack.pop_back();
      }
    }
  }

  Function& function_;
  DominatorTree tree_;
  std::vector<std::vector<BlockId>> writes_;
  std::vector<std::vector<BlockId>> exposed_;
  std::vector<std::uint32_t> phi_register_;  // by instruction
  std::vector<ValueId> current_;             // by register
  std::vector<std::pair<std::uint32_t, ValueId>> undo_;
  std::vector<ValueId> alias_;  // results of kRegRead
};

}  // namespace

void build_ssa(Function& function) {
  SsaBuilder(function).run();
}

}  // namespace vgpu::software::ir
