// Jit: prepares a kernel, looks in the disk cache, else has LLVM compile it, and links the object file.
#include "device/software/jit/jit.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>

#include "device/software/ir/lane_shapes.h"
#include "device/software/ir/passes.h"
#include "device/software/jit/code_generator.h"
#include "device/software/jit/disk_cache.h"
#include "device/software/jit/generic_copy.h"

namespace vgpu::software::jit {

namespace {

constexpr std::uint32_t kMaxThreads = 1024;
constexpr std::uint32_t kMxcsrDefault = 0x1F80;         // round to nearest, no exceptions
constexpr std::uint32_t kMxcsrFlush = 0x8000 | 0x0040;  // flush to zero, denormals are zero

// Kernels of more instructions take too long to be compiled more than once, with claims that are checked as
// they run and without. Of several blocks or warps at a time each counts by itself.
constexpr std::size_t kMostCompiledAgain = 4000;
bool may_be_compiled_again(const ir::Function& function) {
  return function.instructions.size() <= kMostCompiledAgain * function.at_a_time();
}

class LinkedKernel final : public CompiledKernel {
 public:
  [[nodiscard]] std::uint64_t generic_warps() const override { return generic ? generic->warps() : 0; }

  std::unique_ptr<GenericCopy> generic;  // of code that asks for one
  std::unique_ptr<LoadedCode> code;
};

bool asks_for_generic_copy(const std::string& object) {
  return object.find(kGenericCopySymbol) != std::string::npos;
}

// An entry of the disk cache is what is known of the code, then the object file.
struct EntryHead {
  AccessCounts accesses;
  std::uint32_t frame_bytes = 0;
};
std::string pack(const CodeGenerator::Generated& generated) {
  const EntryHead head{.accesses = generated.accesses, .frame_bytes = generated.frame_bytes};
  std::string entry(sizeof head, '\0');
  std::memcpy(entry.data(), &head, sizeof head);
  return entry + generated.object;
}
std::optional<CodeGenerator::Generated> unpack(const std::string& entry) {
  EntryHead head;
  if (entry.size() < sizeof head) return std::nullopt;
  std::memcpy(&head, entry.data(), sizeof head);
  return CodeGenerator::Generated{entry.substr(sizeof head), head.accesses, head.frame_bytes};
}

// A kernel's form with its lane shapes, and what its code goes on by where lanes do not agree as it runs.
struct Forms {
  ir::Function function;
  ir::LaneShapes shapes;
  std::optional<ir::LaneShapes> masked;  // without converging branches, if `shapes` has some
};

Forms make_forms(ir::Function function, const Passes& passes) {
  const bool is_small = may_be_compiled_again(function);
  const ir::CheckedClaims claims{.guards = passes.guards && is_small,
                                 .convergence = passes.convergence && is_small};
  Forms forms;
  forms.shapes = ir::analyse_lanes(function, {.guards = claims.guards});
  ir::keep_live_outs(function, forms.shapes);
  if (claims.convergence) {
    ir::LaneShapes agreeing = ir::analyse_lanes(function, claims);
    const bool claims_more =
        std::ranges::find(agreeing.converges, true) != agreeing.converges.end() ||
        std::ranges::find(agreeing.guarded_on_entry, true) != agreeing.guarded_on_entry.end();
    if (claims_more && ir::refines(agreeing, forms.shapes)) {
      forms.masked = std::exchange(forms.shapes, std::move(agreeing));
    }
  }
  forms.function = std::move(function);
  return forms;
}

// A kernel's form before its lanes are looked at.
struct Prepared {
  ir::Function function;
  std::uint32_t barriers_skipped = 0;  // AccessCounts::barriers_skipped
};

Error from(const ir::LowerError& error) {
  switch (error.kind) {
    case ir::LowerErrorKind::kNotFound:
      return {ErrorKind::kNotFound, error.message};
    case ir::LowerErrorKind::kParse:
      return {ErrorKind::kParse, error.message};
    default:
      return {ErrorKind::kUnsupported, error.message};
  }
}

}  // namespace

struct Jit::Impl {
  explicit Impl(Options given)
      : options(std::move(given)),
        generator(options.cpu, options.features, options.opt_level, options.unconfined),
        cache(options.unconfined ? std::filesystem::path() : options.cache_directory, options.cache_bytes) {}

  std::expected<std::shared_ptr<const CompiledKernel>, Error> compile(const ptx::Module& module,
                                                                      std::string_view kernel,
                                                                      const LaunchShape& shape);
  // Links the kernel's code, and puts what makes its generic copy behind it where it asks for that.
  [[nodiscard]] std::expected<void, std::string> link(LinkedKernel& kernel, const std::string& object,
                                                      std::shared_ptr<const ir::Function> function,
                                                      const std::string& key);
  [[nodiscard]] GenericCopy::Code make_generic(ir::Function function, const std::string& key);
  [[nodiscard]] std::expected<Prepared, Error> prepare(const ptx::Module& module, std::string_view kernel,
                                                       const LaunchShape& shape) const;

  Options options;
  CodeGenerator generator;
  DiskCache cache;
  std::atomic<std::uint64_t> compiled{0};
  std::atomic<std::uint64_t> cache_hits{0};
  std::atomic<std::uint64_t> failures{0};
  std::atomic<std::uint64_t> nanoseconds{0};
};

std::expected<Prepared, Error> Jit::Impl::prepare(const ptx::Module& module, std::string_view kernel,
                                                  const LaunchShape& shape) const {
  const std::uint64_t threads = std::uint64_t{shape.ntid[0]} * shape.ntid[1] * shape.ntid[2];
  if (threads == 0 || threads > kMaxThreads || std::ranges::max(shape.ntid) > kMaxThreads) {
    return std::unexpected(Error{ErrorKind::kLaunchShape, "a block of " + std::to_string(shape.ntid[0]) +
                                                              " x " + std::to_string(shape.ntid[1]) + " x " +
                                                              std::to_string(shape.ntid[2]) + " threads"});
  }
  ir::LowerOptions lower_options;
  for (int i = 0; i < 3; ++i) lower_options.ntid[i] = shape.ntid[i];
  lower_options.indices_fit_31_bits = shape.indices_fit_31_bits;
  if (options.passes.nulls) lower_options.null_params = shape.null_params;
  lower_options.merge_loads = options.passes.merging;
  lower_options.split_loads = options.passes.splitting;
  std::string broken;
  const auto after = [&](std::string_view pass, const ir::Function& function) {
    if (!options.verify || !broken.empty() || pass == "lower") return;
    const std::string problem = ir::verify(function);
    if (!problem.empty()) broken = "after " + std::string(pass) + ": " + problem;
  };
  auto prepared = ir::prepare(module, kernel, lower_options, after);
  if (!prepared) return std::unexpected(from(prepared.error()));
  if (!broken.empty()) return std::unexpected(Error{ErrorKind::kInternal, broken});
  if (shape.at_a_time > 1) {
    const auto coarsened = ir::coarsen(*prepared, shape.at_a_time,
                                       {.blocks = options.passes.coarsening, .warps = options.passes.warps});
    if (!coarsened)
      return std::unexpected(Error{ErrorKind::kUnsupported, "not several at a time: " + coarsened.error()});
    after("coarsen", *prepared);
  }
  const std::uint32_t skipped = options.passes.leaving ? ir::leave_before_barriers(*prepared) : 0;
  after("leave_before_barriers", *prepared);
  ir::end_blocks_at_barriers(*prepared);
  after("end_blocks_at_barriers", *prepared);
  if (!broken.empty()) return std::unexpected(Error{ErrorKind::kInternal, broken});
  return Prepared{std::move(*prepared), skipped};
}

std::expected<void, std::string> Jit::Impl::link(LinkedKernel& kernel, const std::string& object,
                                                 std::shared_ptr<const ir::Function> function,
                                                 const std::string& key) {
  if (asks_for_generic_copy(object)) {
    kernel.generic = std::make_unique<GenericCopy>(
        [this, function = std::move(function), key] { return make_generic(*function, key + " generic"); });
  }
  auto code = generator.link(object, kernel.generic.get());
  if (!code) return std::unexpected(code.error());
  kernel.code = std::move(*code);
  return {};
}

// Without the claims that are checked as the code runs.
GenericCopy::Code Jit::Impl::make_generic(ir::Function function, const std::string& key) {
  const auto start = std::chrono::steady_clock::now();
  const std::string entry = digest(key);
  GenericCopy::Code made;
  const auto link_generated = [&](const CodeGenerator::Generated& generated) {
    auto linked = generator.link(generated.object, nullptr);
    if (linked) made = {std::move(*linked), generated.frame_bytes};
    return linked.has_value();
  };
  if (const auto stored = cache.load(entry)) {
    const auto generated = unpack(*stored);
    if (generated && link_generated(*generated)) cache_hits.fetch_add(1);
  }
  if (!made.code) {
    ir::LaneShapes shapes = ir::analyse_lanes(function);
    ir::keep_live_outs(function, shapes);
    const auto generated =
        generator.generate({function, shapes}, true, Passes::none(), options.verify, options.dump);
    if (generated && link_generated(*generated)) {
      cache.store(entry, pack(*generated));
      compiled.fetch_add(1);
    } else {
      failures.fetch_add(1);
    }
  }
  const auto taken = std::chrono::steady_clock::now() - start;
  nanoseconds.fetch_add(
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(taken).count()));
  return made;
}

std::expected<std::shared_ptr<const CompiledKernel>, Error> Jit::Impl::compile(const ptx::Module& module,
                                                                               std::string_view kernel,
                                                                               const LaunchShape& shape) {
  const auto start = std::chrono::steady_clock::now();
  if (!generator.problem().empty())
    return std::unexpected(Error{ErrorKind::kUnsupported, generator.problem()});
  auto prepared = prepare(module, kernel, shape);
  if (!prepared) return std::unexpected(prepared.error());
  ir::Function* const function = &prepared->function;
  const std::uint32_t null_params = function->null_params;
  const std::string text = ir::print(*function);
  if (options.dump) options.dump("ir", text);

  auto result = std::make_shared<LinkedKernel>();
  result->static_shared_bytes = function->static_shared_bytes;
  result->dynamic_shared_offset = function->dynamic_shared_offset;
  result->local_bytes = function->local_bytes;
  result->param_bytes = function->param_bytes;
  result->blocks_at_a_time = function->blocks_at_a_time;
  result->warps_at_a_time = function->warps_at_a_time;
  result->mxcsr = kMxcsrDefault | (function->flush == ir::FlushMode::kAlways ? kMxcsrFlush : 0);

  // Everything the code depends on: the form itself, what of it does not show in its text, and the generator.
  std::string material = generator.fingerprint() + "\n" + std::to_string(kKernelAbiVersion);
  for (const std::uint64_t number :
       {std::uint64_t{function->ntid[0]}, std::uint64_t{function->ntid[1]}, std::uint64_t{function->ntid[2]},
        std::uint64_t{shape.indices_fit_31_bits}, std::uint64_t{options.passes.guards},
        std::uint64_t{options.passes.windows}, std::uint64_t{options.passes.convergence},
        std::uint64_t{options.passes.prefetch}, std::uint64_t{options.passes.transposes},
        std::uint64_t{options.passes.rows}, static_cast<std::uint64_t>(function->flush),
        std::uint64_t{function->param_bytes}, std::uint64_t{function->local_bytes},
        std::uint64_t{function->static_shared_bytes}}) {
    material += " " + std::to_string(number);
  }
  const std::string key = digest(material + "\n" + text);
  const bool may_guard = options.passes.guards && may_be_compiled_again(*function);
  const auto unchanged =
      may_guard ? std::make_shared<const ir::Function>(*function) : std::shared_ptr<const ir::Function>();
  if (const auto stored = cache.load(key)) {
    // If it does not link it is of a library that differs in a way the key does not show: compile anew.
    if (auto entry = unpack(*stored)) {
      if (link(*result, entry->object, unchanged, key)) {
        result->from_cache = true;
        result->accesses = entry->accesses;
        result->frame_bytes = entry->frame_bytes;
        result->code_bytes = static_cast<std::uint32_t>(entry->object.size());
        cache_hits.fetch_add(1);
      }
    }
  }
  if (!result->code) {
    const Forms forms = make_forms(std::move(*function), options.passes);
    if (options.verify) {
      const std::string problem = ir::verify(forms.function);
      if (!problem.empty())
        return std::unexpected(Error{ErrorKind::kInternal, "after keep_live_outs: " + problem});
    }
    if (options.dump) options.dump("shapes", ir::print(forms.shapes, forms.function));
    auto generated =
        generator.generate({forms.function, forms.shapes, forms.masked ? &*forms.masked : nullptr}, false,
                           options.passes, options.verify, options.dump);
    if (!generated) return std::unexpected(Error{ErrorKind::kInternal, generated.error()});
    if (const auto linked = link(*result, generated->object, unchanged, key); !linked) {
      return std::unexpected(Error{ErrorKind::kInternal, linked.error()});
    }
    generated->accesses.barriers_skipped = prepared->barriers_skipped;
    generated->accesses.null_params = null_params;
    result->accesses = generated->accesses;
    result->frame_bytes = generated->frame_bytes;
    result->code_bytes = static_cast<std::uint32_t>(generated->object.size());
    cache.store(key, pack(*generated));
    compiled.fetch_add(1);
  }
  result->entry = reinterpret_cast<WarpFunction>(result->code->address());
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
  result->compile_seconds = taken.count();
  return result;
}

Jit::Jit(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Jit::~Jit() = default;

std::expected<std::shared_ptr<const CompiledKernel>, Error> Jit::compile(const ptx::Module& module,
                                                                         std::string_view kernel,
                                                                         const LaunchShape& shape) {
  const auto start = std::chrono::steady_clock::now();
  auto result = impl_->compile(module, kernel, shape);
  const auto taken = std::chrono::steady_clock::now() - start;
  impl_->nanoseconds.fetch_add(
      static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(taken).count()));
  // That a kernel is not one for several blocks or warps at a time is an answer.
  const bool refused = !result && shape.at_a_time > 1 && result.error().kind == ErrorKind::kUnsupported;
  if (!result && !refused) impl_->failures.fetch_add(1);
  return result;
}

Counters Jit::counters() const {
  return {.compiled = impl_->compiled.load(),
          .cache_hits = impl_->cache_hits.load(),
          .failures = impl_->failures.load(),
          .compile_seconds = static_cast<double>(impl_->nanoseconds.load()) * 1e-9};
}

}  // namespace vgpu::software::jit
