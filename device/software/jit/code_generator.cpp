// LLVM: target, optimisation, object files, and ORC for linking them into the process.
#include "device/software/jit/code_generator.h"

#include <llvm/ExecutionEngine/Orc/LLJIT.h>
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/LegacyPassManager.h>
#include <llvm/IR/Verifier.h>
#include <llvm/MC/MCSubtargetInfo.h>
#include <llvm/MC/TargetRegistry.h>
#include <llvm/Passes/PassBuilder.h>
#include <llvm/Support/CommandLine.h>
#include <llvm/Support/MemoryBuffer.h>
#include <llvm/Support/SmallVectorMemoryBuffer.h>
#include <llvm/Support/TargetSelect.h>
#include <llvm/Support/raw_ostream.h>
#include <llvm/Target/TargetMachine.h>
#include <llvm/TargetParser/Host.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <optional>

#include "device/software/jit/emitter.h"
#include "device/software/jit/generic_copy.h"
#include "device/software/jit/runtime_helpers.h"

namespace vgpu::software::jit {

namespace {

constexpr const char* kEntrySymbol = "vgpu_warp";
// Above this many instructions of our form, optimising further costs seconds and gains little. Of
// several blocks or warps at a time each counts by itself: those are compiled while the kernel runs.
constexpr std::size_t kLargeFunction = 4000;

std::size_t size_of(const ir::Function& function) {
  std::size_t count = 0;
  for (const ir::Block& block : function.blocks) count += block.body.size();
  return count;
}

std::string text_of(const llvm::Module& module) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  module.print(stream, nullptr);
  return text;
}

// Where a warp is started anew when a guard fails: its generic copy is asked for by name, and is not in here.
void emit_restart(llvm::Module& module) {
  llvm::Function* restart = module.getFunction(kPlainSymbol);
  if (restart == nullptr) return;
  auto& context = module.getContext();
  auto* pointer = llvm::PointerType::get(context, 0);
  auto* number = llvm::Type::getInt32Ty(context);
  const llvm::FunctionCallee run = module.getOrInsertFunction(
      kRunGenericSymbol, llvm::FunctionType::get(number, {pointer, number, pointer, pointer}, false));
  llvm::Constant* copy = module.getOrInsertGlobal(kGenericCopySymbol, llvm::Type::getInt8Ty(context));
  restart->setLinkage(llvm::GlobalValue::InternalLinkage);
  restart->addFnAttr(llvm::Attribute::NoInline);
  restart->addFnAttr(llvm::Attribute::Cold);
  llvm::IRBuilder<> builder(llvm::BasicBlock::Create(context, "entry", restart));
  builder.CreateRet(
      builder.CreateCall(run, {restart->getArg(0), restart->getArg(1), restart->getArg(2), copy}));
}

// Once for the process.
void initialise_llvm() {
  llvm::InitializeNativeTarget();
  llvm::InitializeNativeTargetAsmPrinter();
  // Instructions stay in the order in which we write them. LLVM's scheduler brings loads forward and pulls
  // chains apart, so more values wait for their use than there are registers (docs/performance.md). No
  // interface but this option turns it off; what it does not know it says on the stream, and goes on.
  constexpr std::array kOptions{"vgpu", "-enable-misched=false"};
  llvm::cl::ParseCommandLineOptions(kOptions.size(), kOptions.data(), "", &llvm::errs());
}

}  // namespace

struct CodeGenerator::Impl {
  std::string cpu;
  std::string features;
  std::string problem;
  std::string fingerprint;
  int opt_level = 2;
  Target target;
  const llvm::Target* llvm_target = nullptr;
  std::string triple;
  std::unique_ptr<llvm::orc::LLJIT> session;
  std::atomic<std::uint64_t> next_library{0};

  [[nodiscard]] std::unique_ptr<llvm::TargetMachine> machine(int level) const {
    const auto codegen = level >= 2   ? llvm::CodeGenOptLevel::Default
                         : level == 1 ? llvm::CodeGenOptLevel::Less
                                      : llvm::CodeGenOptLevel::None;
    llvm::TargetOptions options;
    options.AllowFPOpFusion = llvm::FPOpFusion::Strict;
    return std::unique_ptr<llvm::TargetMachine>(llvm_target->createTargetMachine(
        triple, cpu, features, options, llvm::Reloc::PIC_, llvm::CodeModel::Small, codegen, true));
  }
};

CodeGenerator::CodeGenerator(const std::string& cpu, const std::string& features, int opt_level,
                             bool unconfined)
    : impl_(std::make_unique<Impl>()) {
  static std::once_flag once;
  std::call_once(once, initialise_llvm);
  impl_->opt_level = opt_level;
  impl_->target.unconfined = unconfined;
  impl_->triple = llvm::sys::getProcessTriple();
  if (cpu.empty()) {
    impl_->cpu = llvm::sys::getHostCPUName().str();
    llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
    std::vector<std::string> names;
    for (const auto& [name, on] : host) names.push_back((on ? "+" : "-") + name.str());
    std::ranges::sort(names);
    for (const std::string& name : names) impl_->features += (impl_->features.empty() ? "" : ",") + name;
  } else {
    impl_->cpu = cpu;
    impl_->features = features;
  }
  // LLVM 19.1.7 exchanges the operands of a masked comparison of halves, to take one from the stack, but not
  // the relation (fuzz/regressions/half_comparison.ptx; comparisons of f32 and f64 it exchanges rightly).
  // Halves are computed in f32 anyway.
  impl_->features += impl_->features.empty() ? "-avx512fp16" : ",-avx512fp16";
  std::string error;
  impl_->llvm_target = llvm::TargetRegistry::lookupTarget(impl_->triple, error);
  if (impl_->llvm_target == nullptr) {
    impl_->problem = "LLVM has no target for " + impl_->triple + ": " + error;
    return;
  }
  const auto machine = impl_->machine(opt_level);
  const auto has = [&](const char* feature) {
    return machine->getMCSubtargetInfo()->checkFeatures(std::string("+") + feature);
  };
  for (const char* needed : {"avx2", "fma", "f16c", "bmi"}) {
    if (!has(needed)) impl_->problem = "the processor (" + impl_->cpu + ") lacks " + needed;
  }
  impl_->target.avx512 = has("avx512f") && has("avx512bw") && has("avx512dq") && has("avx512vl");
  impl_->target.vbmi = impl_->target.avx512 && has("avx512vbmi");
  impl_->target.vnni = impl_->target.avx512 && has("avx512vnni");
  // One instruction of AMD's since Zen 4 (as published); three of Intel's, two of them for the one port that
  // permutes (docs/software-backend.md).
  impl_->target.word_permute_cost = impl_->cpu.starts_with("znver") ? 1 : 3;
  impl_->fingerprint = std::string("LLVM ") + LLVM_VERSION_STRING +
                       " generator " VGPU_GENERATOR_DIGEST " level " + std::to_string(opt_level) + " " +
                       impl_->cpu + " " + impl_->features;
  auto session = llvm::orc::LLJITBuilder().create();
  if (!session) {
    impl_->problem = "LLVM's linker did not start: " + llvm::toString(session.takeError());
    return;
  }
  impl_->session = std::move(*session);
}

CodeGenerator::~CodeGenerator() = default;

const std::string& CodeGenerator::problem() const {
  return impl_->problem;
}
const std::string& CodeGenerator::fingerprint() const {
  return impl_->fingerprint;
}

std::expected<CodeGenerator::Generated, std::string> CodeGenerator::generate(
    const Form& form, bool quick, const Passes& enabled, bool verify,
    const std::function<void(std::string_view, const std::string&)>& dump) const {
  const bool is_large = size_of(form.function) > kLargeFunction * form.function.at_a_time();
  const int level = is_large ? std::min(impl_->opt_level, 1) : impl_->opt_level;
  const auto machine = impl_->machine(level);
  llvm::LLVMContext context;
  llvm::Module module("kernel", context);
  module.setTargetTriple(impl_->triple);
  module.setDataLayout(machine->createDataLayout());
  std::optional<Emitter> masked;
  if (form.masked != nullptr) masked.emplace(module, form.function, *form.masked, impl_->target, enabled);
  Emitter emitter(module, form.function, form.shapes, impl_->target, enabled);
  const AccessCounts accesses = emitter.run(kEntrySymbol, masked ? &*masked : nullptr);
  if (quick) {
    module.getFunction(kEntrySymbol)->addFnAttr(llvm::Attribute::NoInline);
    module.getFunction(kEntrySymbol)->addFnAttr(llvm::Attribute::OptimizeNone);
  }
  emit_restart(module);
  if (dump) dump("llvm", text_of(module));
  if (verify) {
    std::string broken;
    llvm::raw_string_ostream stream(broken);
    if (llvm::verifyModule(module, &stream)) return std::unexpected("LLVM's verifier: " + broken);
  }
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = false;
  tuning.SLPVectorization = false;
  tuning.LoopInterleaving = false;
  tuning.LoopUnrolling = false;
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager components;
  llvm::ModuleAnalysisManager modules;
  llvm::PassBuilder builder(machine.get(), tuning);
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(components);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, components, modules);
  const auto pipeline = level >= 2   ? llvm::OptimizationLevel::O2
                        : level == 1 ? llvm::OptimizationLevel::O1
                                     : llvm::OptimizationLevel::O0;
  auto passes =
      level == 0 ? builder.buildO0DefaultPipeline(pipeline) : builder.buildPerModuleDefaultPipeline(pipeline);
  passes.run(module, modules);
  if (dump) dump("llvm-optimised", text_of(module));

  llvm::SmallVector<char, 0> object;
  llvm::raw_svector_ostream stream(object);
  llvm::legacy::PassManager emit;
  if (machine->addPassesToEmitFile(emit, stream, nullptr, llvm::CodeGenFileType::ObjectFile)) {
    return std::unexpected("LLVM cannot write object files for this target");
  }
  emit.run(module);
  return Generated{std::string(object.data(), object.size()), accesses, emitter.frame_bytes()};
}

namespace {

class OrcCode final : public LoadedCode {
 public:
  OrcCode(llvm::orc::ExecutionSession& session, llvm::orc::JITDylib& library)
      : session_(session), library_(&library) {}
  OrcCode(const OrcCode&) = delete;
  OrcCode& operator=(const OrcCode&) = delete;
  ~OrcCode() override { llvm::consumeError(session_.removeJITDylib(*library_)); }
  [[nodiscard]] std::uint64_t address() const override { return address_; }
  void set_address(std::uint64_t address) { address_ = address; }

 private:
  llvm::orc::ExecutionSession& session_;
  llvm::orc::JITDylib* library_;
  std::uint64_t address_ = 0;
};

}  // namespace

std::expected<std::unique_ptr<LoadedCode>, std::string> CodeGenerator::link(const std::string& object,
                                                                            GenericCopy* copy) const {
  auto& session = impl_->session->getExecutionSession();
  auto created = session.createJITDylib("kernel." + std::to_string(impl_->next_library.fetch_add(1)));
  if (!created) return std::unexpected(llvm::toString(created.takeError()));
  llvm::orc::JITDylib& library = *created;
  auto code = std::make_unique<OrcCode>(session, library);
  llvm::orc::SymbolMap symbols;
  for (const auto& [name, address] : runtime_symbols()) {
    symbols[impl_->session->mangleAndIntern(name)] = {llvm::orc::ExecutorAddr::fromPtr(address),
                                                      llvm::JITSymbolFlags::Exported};
  }
  if (copy != nullptr) {
    symbols[impl_->session->mangleAndIntern(kGenericCopySymbol)] = {llvm::orc::ExecutorAddr::fromPtr(copy),
                                                                    llvm::JITSymbolFlags::Exported};
  }
  if (auto error = library.define(llvm::orc::absoluteSymbols(std::move(symbols)))) {
    return std::unexpected(llvm::toString(std::move(error)));
  }
  auto buffer = llvm::MemoryBuffer::getMemBufferCopy(llvm::StringRef(object.data(), object.size()), "kernel");
  if (auto error = impl_->session->addObjectFile(library, std::move(buffer))) {
    return std::unexpected(llvm::toString(std::move(error)));
  }
  auto entry = impl_->session->lookup(library, kEntrySymbol);
  if (!entry) return std::unexpected(llvm::toString(entry.takeError()));
  code->set_address(entry->getValue());
  return code;
}

}  // namespace vgpu::software::jit
