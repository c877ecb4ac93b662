// Attaching, and copying in pieces.
#include "tools/vgpu-probe/client.h"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "shim/cuda/cuda_enums.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {

using protocol::Status;

namespace {

// As the shim has them.
constexpr uint64_t kInlineBytes = 1024;
constexpr uint64_t kChunkSpinNs = 200'000;

[[noreturn]] void on_lost_memory(int /*signal*/) {
  constexpr std::string_view kText =
      "\nvgpu-probe: the region's memory went away under it: its file was truncated, or the file system that "
      "holds it is full. Look at it with `vgpu-probe show`, and start vgpu-device anew\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kText.data(), kText.size());
  ::_exit(1);
}

std::string advice_for(const shim::Failure& failure) {
  switch (failure.status) {
    case Status::kNoDevice:
      return "start vgpu-device, and look at it with `vgpu-probe list`";
    case Status::kSystemDriverMismatch:
      return "use one version of vgpu on both sides";
    case Status::kDeviceUnavailable:
      return "`vgpu-probe show` tells who holds the channels and whether the device's heart beats";
    default:
      return "";
  }
}

}  // namespace

void end_cleanly_on_lost_memory() {
  struct sigaction action{};
  action.sa_handler = on_lost_memory;
  ::sigaction(SIGBUS, &action, nullptr);
}

std::string status_text(Status status) {
  switch (static_cast<int32_t>(status)) {
#define VGPU_RESULT(name, number, words) \
  case number:                           \
    return #name " (" #number ")";
#include "shim/cuda/cuda_results.def"
#undef VGPU_RESULT
    default:
      return fmt::format("status {}", static_cast<int32_t>(status));
  }
}

Try<std::unique_ptr<Client>> Client::open(const pci::Location& location) {
  auto bar = pci::open_location(location);
  if (!bar) return std::unexpected(Trouble{bar.error().text, ""});
  return over(std::move(*bar));
}

Try<std::unique_ptr<Client>> Client::over(pci::Bar bar) {
  const auto found = ring::check_region(bar.bytes(), 0, 0);
  if (found && bar.carrier() == pci::Carrier::kFile &&
      (found->feature_bits & ring::kFeatureOwnerLocks) == 0) {
    return std::unexpected(
        Trouble{bar.path() + " belongs to a virtual machine's guest, which alone knows who owns its channels",
                "run this inside that guest; list, show, watch and dump work from here"});
  }
  std::unique_ptr<Client> client(new Client());
  auto attachment = shim::Attachment::over(std::move(bar));
  if (!attachment) {
    return std::unexpected(Trouble{attachment.error().text, advice_for(attachment.error())});
  }
  client->attachment_ = std::move(*attachment);
  auto session = shim::Session::open(*client->attachment_);
  if (!session) return std::unexpected(Trouble{session.error().text, advice_for(session.error())});
  client->session_ = std::move(*session);
  return client;
}

std::vector<std::string> mapping_files(const pci::Location& location) {
  if (location.carrier == pci::Carrier::kFile) return {location.path};
  std::vector<std::string> files;
  for (const char* name : {"resource2_wc", "resource2"}) {
    const std::string file = location.path + "/" + name;
    if (::access(file.c_str(), R_OK | W_OK) == 0) files.push_back(file);
  }
  // None may be opened: the plain one's error says why.
  if (files.empty()) files.push_back(location.path + "/resource2");
  return files;
}

Trouble Client::trouble(std::string_view what, Status status) const {
  const std::string words = printable(session_->last_error_text());
  Trouble trouble{fmt::format("{}: {}", what, status_text(status)), ""};
  if (!words.empty()) trouble.text += fmt::format("; the device says: {}", words);
  if (status == Status::kDeviceUnavailable) {
    trouble.advice = "the device went away: `vgpu-probe show` tells its state, its log the reason";
  }
  return trouble;
}

Status Client::finish() {
  const Status waited = session_->wait_completed(session_->submitted());
  const Status error = session_->take_error();
  return waited != Status::kSuccess ? waited : error;
}

Try<void> Client::finish(std::string_view what) {
  if (const Status status = finish(); status != Status::kSuccess) {
    return std::unexpected(trouble(what, status));
  }
  return {};
}

Status Client::copy_in(uint64_t to, std::span<const std::byte> from) {
  if (from.size() <= kInlineBytes) {
    return session_->submit(protocol::CopyInlineRequest{.destination = to}, 0, from).status;
  }
  auto& bulk = session_->bulk();
  for (std::size_t at = 0; at < from.size(); at += bulk.slot_bytes()) {
    const std::size_t bytes = std::min<std::size_t>(bulk.slot_bytes(), from.size() - at);
    const auto slot = bulk.take_slot();
    if (!slot) return Status::kOutOfMemory;
    // What the slot was last used for must be done before it is written again.
    shim::Submitted record{session_->wait_completed(bulk.position(*slot)), 0, 0};
    if (record.status == Status::kSuccess) {
      bulk.copy().store(bulk.data(*slot), from.data() + at, bytes);
      record = session_->submit(protocol::CopyFromBulkRequest{.destination = to + at,
                                                              .bulk_offset = bulk.offset(*slot),
                                                              .width = bytes,
                                                              .height = 1,
                                                              .destination_pitch = bytes,
                                                              .bulk_pitch = bytes},
                                0);
    }
    bulk.give_back(*slot, record.end);
    if (record.status != Status::kSuccess) return record.status;
  }
  return Status::kSuccess;
}

Status Client::copy_out(std::span<std::byte> to, uint64_t from) {
  auto& bulk = session_->bulk();
  struct Piece {
    uint32_t slot;
    uint64_t end;
    std::size_t at;
    std::size_t bytes;
  };
  // Half of the slots are in flight: the device fills some while the others are emptied.
  std::array<Piece, shim::BulkHeap::kSlots / 2> pieces{};
  std::size_t first = 0;
  std::size_t count = 0;
  Status failed = Status::kSuccess;
  const auto drain_one = [&] {
    const Piece piece = pieces[first];
    first = (first + 1) % pieces.size();
    --count;
    // As the shim does: a chunk takes longer than a wait usually spins, and a sleep would cost a wake-up
    // each.
    ring::spin_until([&] { return session_->completed() >= piece.end; }, kChunkSpinNs);
    const Status waited = session_->wait_completed(piece.end);
    if (waited == Status::kSuccess) {
      bulk.copy().load(to.data() + piece.at, bulk.data(piece.slot), piece.bytes);
    } else if (failed == Status::kSuccess) {
      failed = waited;
    }
    bulk.give_back(piece.slot, piece.end);
  };
  for (std::size_t at = 0; at < to.size() && failed == Status::kSuccess; at += bulk.slot_bytes()) {
    if (count == pieces.size()) drain_one();
    const std::size_t bytes = std::min<std::size_t>(bulk.slot_bytes(), to.size() - at);
    const auto slot = bulk.take_slot();
    if (!slot) {
      failed = Status::kOutOfMemory;
      break;
    }
    const auto record = session_->submit(protocol::CopyToBulkRequest{.source = from + at,
                                                                     .bulk_offset = bulk.offset(*slot),
                                                                     .width = bytes,
                                                                     .height = 1,
                                                                     .source_pitch = bytes,
                                                                     .bulk_pitch = bytes},
                                         0);
    if (record.status != Status::kSuccess) {
      failed = record.status;
      bulk.give_back(*slot, 0);
      break;
    }
    pieces[(first + count++) % pieces.size()] = {*slot, record.end, at, bytes};
  }
  while (count != 0) drain_one();
  return failed;
}

Status Client::copy_pinned_in(uint64_t to, const std::byte* host, uint64_t bytes) {
  return session_
      ->submit(protocol::CopyFromBulkRequest{.destination = to,
                                             .bulk_offset = session_->bulk().offset_of(host),
                                             .width = bytes,
                                             .height = 1,
                                             .destination_pitch = bytes,
                                             .bulk_pitch = bytes},
               0)
      .status;
}

Status Client::copy_pinned_out(std::byte* host, uint64_t from, uint64_t bytes) {
  return session_
      ->submit(protocol::CopyToBulkRequest{.source = from,
                                           .bulk_offset = session_->bulk().offset_of(host),
                                           .width = bytes,
                                           .height = 1,
                                           .source_pitch = bytes,
                                           .bulk_pitch = bytes},
               0)
      .status;
}

Try<DeviceMemory> DeviceMemory::allocate(Client& client, uint64_t bytes) {
  const auto reply = client.call(fmt::format("allocating {} of device memory", bytes_text(bytes)),
                                 protocol::MemAllocRequest{.bytes = bytes}, protocol::MemAllocReply{});
  if (!reply) return std::unexpected(reply.error());
  return DeviceMemory(client, reply->address);
}

DeviceMemory::~DeviceMemory() {
  if (client_ != nullptr) client_->session().submit(protocol::MemFreeRequest{.address = address_}, 0);
}

Try<PinnedMemory> PinnedMemory::allocate(Client& client, uint64_t bytes) {
  std::byte* start = client.session().bulk().allocate(bytes);
  if (start == nullptr) {
    return std::unexpected(
        Trouble{fmt::format("no {} of pinned memory left in the channel's bulk heap", bytes_text(bytes)),
                "give vgpu-device a larger region (--region-bytes)"});
  }
  return PinnedMemory(client, {start, bytes});
}

PinnedMemory::~PinnedMemory() {
  if (client_ != nullptr) client_->session().bulk().free(bytes_.data());
}

}  // namespace vgpu::tools
