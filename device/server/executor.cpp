// Records to backend calls. Each handler is called with a request that has passed the protocol's checks.
#include "device/server/executor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

#include "device/server/describe.h"
#include "ring/wait.h"

namespace vgpu::device {

using protocol::Status;

namespace {

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Takes commands from protocol::dispatch as an executor does, and only looks at launches.
struct Peeking {
  const OnUpcomingLaunch& on_launch;
  bool go_on = true;
  void on(const protocol::LaunchRequest& r, std::span<const std::byte> tail) { go_on = on_launch(r, tail); }
  void on(const auto&, std::span<const std::byte>) {}
};

}  // namespace

Executor::Executor(Context& context, const ExecutorConfig& config, Counters& counters)
    : context_(context), config_(config), counters_(counters) {
  reply_.reserve(config.reply_payload_bytes);
}

Executor::Outcome Executor::execute(std::span<const std::byte> record) {
  Outcome outcome;
  status_ = Status::kSuccess;
  reason_.clear();
  reply_.clear();
  refused_ = 0;
  used_bulk_ = false;
  count(counters_.block.commands);
  ring::RecordHeader header{};
  if (record.size() < sizeof header) {
    fail(Status::kInvalidValue, fmt::format("a record of {} bytes has no header", record.size()));
  } else {
    std::memcpy(&header, record.data(), sizeof header);
    stream_ = header.stream;
    const auto index = protocol::command_index(header.opcode);
    if (index < protocol::kCommandCount) count(counters_.by_command[index]);
    const bool needs_reply =
        index < protocol::kCommandCount && protocol::kCommands[index].mode == protocol::Mode::kSync;
    if (sticky_ != Status::kSuccess) {
      status_ = sticky_;  // said once, with its reason, when it happened
    } else if (needs_reply && header.reply_slot == ring::kNoReply) {
      fail(Status::kInvalidValue,
           fmt::format("{} needs a reply slot and names none", protocol::kCommands[index].name));
    } else {
      try {
        dispatch_record(header.opcode, record.subspan(sizeof header));
      } catch (const std::bad_alloc&) {
        fail(Status::kOutOfMemory, "the device's own memory is exhausted");
      } catch (const std::exception& exception) {
        fail(Status::kUnknown, exception.what());
      }
    }
  }
  if (status_ != Status::kSuccess) {
    reply_.clear();
    if (!reason_.empty() && refused_ == 0) {
      reason_ = fmt::format(
          "{}, in {}", reason_,
          describe_record(header.opcode, record.size() < sizeof header ? std::span<const std::byte>{}
                                                                       : record.subspan(sizeof header)));
    }
  }
  outcome.abandoned = !count_outcome();
  outcome.status = status_;
  outcome.told = refused_ != 0;
  outcome.used_bulk = used_bulk_;
  outcome.opcode = outcome.told ? refused_ : header.opcode;
  outcome.reply_slot = record.size() < sizeof header ? ring::kNoReply : header.reply_slot;
  outcome.reply = reply_;
  outcome.reason = std::move(reason_);
  return outcome;
}

bool Executor::peek(std::span<const std::byte> record, const OnUpcomingLaunch& on_launch) const {
  Peeking peeking{on_launch};
  ring::RecordHeader header;
  std::memcpy(&header, record.data(), sizeof header);
  protocol::dispatch(header.opcode, record.subspan(sizeof header), config_.limits, peeking);
  return peeking.go_on;
}

Executor::Outcome Executor::finish() {
  Outcome outcome;
  if (sticky_ != Status::kSuccess) return outcome;
  status_ = Status::kSuccess;
  refused_ = 0;
  done(context_.wait_idle());
  outcome.abandoned = !count_outcome();
  outcome.status = status_;
  outcome.reason = std::exchange(reason_, {});
  return outcome;
}

void Executor::dispatch_record(uint16_t opcode, std::span<const std::byte> body) {
  const auto outcome = protocol::dispatch(opcode, body, config_.limits, *this);
  switch (outcome.result) {
    case protocol::DispatchResult::kHandled:
      break;
    case protocol::DispatchResult::kUnknownOpcode:
      fail(Status::kNotSupported, "unknown opcode");
      break;
    case protocol::DispatchResult::kTruncated:
      fail(Status::kInvalidValue, "the record ends before the command's fields do");
      break;
    case protocol::DispatchResult::kCheckFailed:
      fail(Status::kInvalidValue, fmt::format("check failed: {}", outcome.failed_check));
      break;
  }
}

void Executor::fail(Status status, std::string reason) {
  status_ = status == Status::kSuccess ? Status::kUnknown : status;
  reason_ = reason.empty() ? "the backend gave no reason" : std::move(reason);
}

bool Executor::count_outcome() {
  if (status_ == Status::kSuccess) return true;
  if (protocol::is_sticky(status_) && refused_ == 0) sticky_ = status_;
  if (config_.abandoned && config_.abandoned()) return false;
  count(counters_.block.errors);
  if (status_ == Status::kNotSupported) count(counters_.block.not_supported);
  return true;
}

void Executor::count_memory() {
  const uint64_t in_use = context_.memory_in_use();
  ring::store_relaxed(counters_.block.memory_in_use_bytes, in_use);
  if (in_use > ring::load_relaxed(counters_.block.memory_peak_bytes)) {
    ring::store_relaxed(counters_.block.memory_peak_bytes, in_use);
  }
}

template <typename Reply>
void Executor::reply_with(const Reply& reply, std::span<const std::byte> more) {
  static_assert(protocol::kWireBytes<Reply> == sizeof reply);
  if (sizeof reply + more.size() > config_.reply_payload_bytes) {
    fail(Status::kNotSupported, fmt::format("the answer of {} bytes does not fit a reply slot of {}",
                                            sizeof reply + more.size(), config_.reply_payload_bytes));
    return;
  }
  reply_.resize(sizeof reply + more.size());
  std::memcpy(reply_.data(), &reply, sizeof reply);
  if (!more.empty()) std::memcpy(reply_.data() + sizeof reply, more.data(), more.size());
}

// The checks have established that the rows lie in the bulk heap.
std::span<std::byte> Executor::bulk_rows(uint64_t offset, uint64_t width, uint64_t height, uint64_t pitch) {
  used_bulk_ = true;
  return config_.bulk.subspan(offset, height == 1 ? width : (height - 1) * pitch + width);
}

// --- Session -------------------------------------------------------------------------------------

void Executor::on(const protocol::PingRequest& r, std::span<const std::byte>) {
  reply_with(protocol::PingReply{.cookie = r.cookie, .device_time = ring::monotonic_ns()});
}

void Executor::on(const protocol::RefusedRequest& r, std::span<const std::byte> tail) {
  refused_ = protocol::command_index(static_cast<uint16_t>(r.opcode)) < protocol::kCommandCount
                 ? static_cast<uint16_t>(r.opcode)
                 : static_cast<uint16_t>(protocol::Opcode::kRefused);
  std::string reason(as_text(tail));
  // The guest's words end up on terminals.
  for (char& c : reason) {
    if (c < ' ' || c > '~') c = '?';
  }
  fail(static_cast<Status>(r.status), std::move(reason));
}

void Executor::on(const protocol::KernelFiguresRequest& r, std::span<const std::byte>) {
  auto report = context_.kernel_figures(r.index);
  if (!check(report)) return;
  auto& figures = report->figures;
  // A name may be longer than an answer; nobody needs all of one that is.
  const std::size_t room =
      config_.reply_payload_bytes -
      std::min<std::size_t>(config_.reply_payload_bytes, sizeof figures + report->counts.size());
  std::string text = report->name.substr(0, room);
  figures.name_bytes = static_cast<uint32_t>(text.size());
  figures.count_bytes = static_cast<uint32_t>(report->counts.size());
  text += report->counts;
  reply_with(figures, std::as_bytes(std::span(text)));
}

// --- Memory --------------------------------------------------------------------------------------

void Executor::on(const protocol::MemAllocRequest& r, std::span<const std::byte>) {
  auto address = context_.allocate(r.bytes);
  if (!check(address)) return;
  count_memory();
  reply_with(protocol::MemAllocReply{.address = *address});
}

void Executor::on(const protocol::MemFreeRequest& r, std::span<const std::byte>) {
  done(context_.free(r.address));
  count_memory();
}

void Executor::on(const protocol::MemGetInfoRequest&, std::span<const std::byte>) {
  auto info = context_.memory_info();
  if (!check(info)) return;
  reply_with(protocol::MemGetInfoReply{.free_bytes = info->free_bytes, .total_bytes = info->total_bytes});
}

void Executor::on(const protocol::CopyInlineRequest& r, std::span<const std::byte> tail) {
  auto copied = context_.copy_to_device(r.destination, 0, tail, 0, {.width = tail.size(), .height = 1});
  if (check(copied)) count(counters_.block.bytes_to_device, tail.size());
}

void Executor::on(const protocol::CopyFromBulkRequest& r, std::span<const std::byte>) {
  if (r.width == 0 || r.height == 0) return;
  const auto bulk = bulk_rows(r.bulk_offset, r.width, r.height, r.bulk_pitch);
  auto copied = context_.copy_to_device(r.destination, r.destination_pitch, bulk, r.bulk_pitch,
                                        {.width = r.width, .height = r.height});
  if (check(copied)) count(counters_.block.bytes_to_device, r.width * r.height);
}

void Executor::on(const protocol::CopyToBulkRequest& r, std::span<const std::byte>) {
  if (r.width == 0 || r.height == 0) return;
  const auto bulk = bulk_rows(r.bulk_offset, r.width, r.height, r.bulk_pitch);
  auto copied = context_.copy_from_device(bulk, r.bulk_pitch, r.source, r.source_pitch,
                                          {.width = r.width, .height = r.height});
  if (check(copied)) count(counters_.block.bytes_from_device, r.width * r.height);
}

void Executor::on(const protocol::CopyDeviceRequest& r, std::span<const std::byte>) {
  if (r.width == 0 || r.height == 0) return;
  auto copied = context_.copy_on_device(r.destination, r.destination_pitch, r.source, r.source_pitch,
                                        {.width = r.width, .height = r.height});
  if (check(copied)) count(counters_.block.bytes_on_device, r.width * r.height);
}

void Executor::on(const protocol::MemsetRequest& r, std::span<const std::byte>) {
  if (r.width == 0 || r.height == 0) return;
  done(context_.memset(r));
}

void Executor::on(const protocol::BulkAddressRequest&, std::span<const std::byte>) {
  if (bulk_address_ == 0) {
    auto address = context_.map_bulk(config_.bulk, config_.bulk_file, config_.bulk_file_offset);
    if (!check(address)) return;
    bulk_address_ = *address;
  }
  reply_with(protocol::BulkAddressReply{.address = bulk_address_});
}

// --- Virtual memory management -------------------------------------------------------------------

void Executor::on(const protocol::AddressReserveRequest& r, std::span<const std::byte>) {
  auto address = context_.reserve_address(r.bytes, r.alignment, r.wanted);
  if (check(address)) reply_with(protocol::AddressReserveReply{.address = *address});
}

void Executor::on(const protocol::AddressFreeRequest& r, std::span<const std::byte>) {
  done(context_.free_address(r.address, r.bytes));
}

void Executor::on(const protocol::PhysicalCreateRequest& r, std::span<const std::byte>) {
  done(context_.create_physical(r.physical, r.bytes));
  count_memory();
}

void Executor::on(const protocol::PhysicalReleaseRequest& r, std::span<const std::byte>) {
  done(context_.release_physical(r.physical));
  count_memory();
}

void Executor::on(const protocol::MapRequest& r, std::span<const std::byte>) {
  done(context_.map(r));
}

void Executor::on(const protocol::UnmapRequest& r, std::span<const std::byte>) {
  done(context_.unmap(r.address, r.bytes));
  count_memory();
}

void Executor::on(const protocol::SetAccessRequest& r, std::span<const std::byte>) {
  done(context_.set_access(r));
}

// --- Modules and functions -----------------------------------------------------------------------

void Executor::drop_image(uint32_t module) {
  const auto found = images_.find(module);
  if (found == images_.end()) return;
  image_bytes_ -= found->second.total;
  images_.erase(found);
}

// Chunks come in order, as one producer sends them; a chunk at offset 0 begins anew.
void Executor::on(const protocol::ModuleDataRequest& r, std::span<const std::byte>) {
  if (r.offset == 0) {
    drop_image(r.module);
    if (r.total > config_.image_bytes - image_bytes_) {
      fail(Status::kOutOfMemory,
           fmt::format("{} bytes of module images are being gathered, {} more pass the quota of {}",
                       image_bytes_, r.total, config_.image_bytes));
      return;
    }
    Image image{.bytes = {}, .total = r.total};
    image.bytes.reserve(r.total);
    images_.emplace(r.module, std::move(image));
    image_bytes_ += r.total;
  }
  const auto found = images_.find(r.module);
  if (found == images_.end() || found->second.total != r.total || found->second.bytes.size() != r.offset) {
    fail(Status::kInvalidValue,
         found == images_.end()
             ? fmt::format("module {} has no image being gathered", r.module)
             : fmt::format("{} of {} bytes of the module's image are there: the next chunk starts elsewhere",
                           found->second.bytes.size(), found->second.total));
    drop_image(r.module);
    return;
  }
  const auto chunk = bulk_rows(r.bulk_offset, r.bytes, 1, r.bytes);
  found->second.bytes.insert(found->second.bytes.end(), chunk.begin(), chunk.end());
  count(counters_.block.bytes_to_device, r.bytes);
}

void Executor::on(const protocol::ModuleLoadRequest& r, std::span<const std::byte>) {
  const auto found = images_.find(r.module);
  if (found == images_.end() || found->second.bytes.size() != found->second.total) {
    const uint64_t have = found == images_.end() ? 0 : found->second.bytes.size();
    const uint64_t total = found == images_.end() ? 0 : found->second.total;
    drop_image(r.module);
    fail(Status::kInvalidImage,
         fmt::format("the module's image is not there: {} of {} bytes came", have, total));
    return;
  }
  auto image = std::move(found->second.bytes);
  drop_image(r.module);
  auto loaded = context_.load_module(r.module, std::move(image));
  count_memory();
  if (check(loaded)) reply_with(*loaded);
}

void Executor::on(const protocol::ModuleUnloadRequest& r, std::span<const std::byte>) {
  done(context_.unload_module(r.module));
  count_memory();
}

void Executor::on(const protocol::FunctionGetRequest& r, std::span<const std::byte> tail) {
  auto info = context_.get_function(r.module, r.function, as_text(tail));
  if (!check(info)) return;
  protocol::FunctionGetReply reply = info->attributes;
  reply.parameter_count = static_cast<uint32_t>(info->parameters.size());
  reply_with(reply, std::as_bytes(std::span(info->parameters)));
}

void Executor::on(const protocol::FunctionNameRequest& r, std::span<const std::byte>) {
  auto name = context_.function_name(r.module, r.index);
  if (!check(name)) return;
  reply_with(protocol::FunctionNameReply{.name_bytes = static_cast<uint32_t>(name->size()), .reserved = 0},
             std::as_bytes(std::span(*name)));
}

void Executor::on(const protocol::GlobalGetRequest& r, std::span<const std::byte> tail) {
  auto global = context_.get_global(r.module, as_text(tail));
  if (!check(global)) return;
  count_memory();
  reply_with(protocol::GlobalGetReply{.address = global->address, .bytes = global->bytes});
}

void Executor::on(const protocol::FunctionSetMaxDynamicSharedRequest& r, std::span<const std::byte>) {
  done(context_.set_max_dynamic_shared(r.function, r.bytes));
}

void Executor::on(const protocol::LaunchRequest& r, std::span<const std::byte> tail) {
  auto launched = context_.launch(stream_, r, tail);
  if (check(launched)) count(counters_.block.launches);
}

// --- Streams and events --------------------------------------------------------------------------

void Executor::on(const protocol::StreamCreateRequest& r, std::span<const std::byte>) {
  done(context_.create_stream(r));
}

void Executor::on(const protocol::StreamDestroyRequest& r, std::span<const std::byte>) {
  done(context_.destroy_stream(r.stream));
}

void Executor::on(const protocol::EventRecordRequest& r, std::span<const std::byte>) {
  done(context_.record_event(stream_, r.event));
}

void Executor::on(const protocol::StreamWaitEventRequest& r, std::span<const std::byte>) {
  done(context_.wait_event(stream_, r.event));
}

void Executor::on(const protocol::EventDestroyRequest& r, std::span<const std::byte>) {
  done(context_.destroy_event(r.event));
}

void Executor::on(const protocol::EventTimeRequest& r, std::span<const std::byte>) {
  auto time = context_.event_time(r.event);
  if (check(time)) reply_with(protocol::EventTimeReply{.time = *time});
}

void Executor::on(const protocol::WriteValueRequest& r, std::span<const std::byte>) {
  done(context_.write_value(r));
}

// --- BLAS ----------------------------------------------------------------------------------------

void Executor::on(const protocol::GemmRequest& r, std::span<const std::byte>) {
  auto result = context_.gemm(stream_, r);
  if (check(result)) count(counters_.block.blas_calls);
}

void Executor::on(const protocol::TrsmBatchedRequest& r, std::span<const std::byte>) {
  auto result = context_.trsm_batched(stream_, r);
  if (check(result)) count(counters_.block.blas_calls);
}

}  // namespace vgpu::device
