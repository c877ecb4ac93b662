// See fuzz_case.h.
#include "tests/device/software/fuzz/fuzz_case.h"

#include <cstring>
#include <iomanip>
#include <sstream>

#include "tests/device/software/fuzz/dice.h"

namespace vgpu::testing::fuzz {
namespace {

constexpr const char* kFills[] = {"pattern", "zero", "random", "floats", "doubles", "halves"};
constexpr const char* kPlaces[] = {"anywhere", "end", "start"};

template <typename Enum, std::size_t N>
bool find_word(const std::string& word, const char* const (&names)[N], Enum& out) {
  for (std::size_t i = 0; i < N; ++i) {
    if (word != names[i]) continue;
    out = static_cast<Enum>(i);
    return true;
  }
  return false;
}

template <typename T>
void put(std::vector<std::byte>& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, std::min(sizeof value, bytes.size() - at));
}

}  // namespace

std::vector<std::byte> contents(const BufferSpec& buffer) {
  std::vector<std::byte> bytes(buffer.bytes, buffer.fill == Fill::kPattern ? std::byte{0xA5} : std::byte{0});
  Dice dice(buffer.seed);
  switch (buffer.fill) {
    case Fill::kRandom:
      for (std::size_t i = 0; i < bytes.size(); i += 8) put(bytes, i, dice.bits());
      break;
    case Fill::kFloats:
      for (std::size_t i = 0; i < bytes.size(); i += 4) put(bytes, i, dice.float_bits());
      break;
    case Fill::kDoubles:
      for (std::size_t i = 0; i < bytes.size(); i += 8) put(bytes, i, dice.double_bits());
      break;
    case Fill::kHalves:
      for (std::size_t i = 0; i < bytes.size(); i += 2) put(bytes, i, dice.half_bits());
      break;
    default:
      break;
  }
  return bytes;
}

std::string FuzzCase::text() const {
  std::ostringstream out;
  out << "//! seed " << seed << "\n//! grid " << grid[0] << ' ' << grid[1] << ' ' << grid[2] << "\n//! block "
      << block[0] << ' ' << block[1] << ' ' << block[2] << "\n//! shared " << dynamic_shared_bytes
      << "\n//! level " << opt_level << '\n';
  for (const std::string& name : switched_off) out << "//! off " << name << '\n';
  for (const BufferSpec& buffer : buffers) {
    out << "//! buffer " << buffer.bytes << ' ' << kFills[static_cast<std::size_t>(buffer.fill)] << ' '
        << buffer.seed << ' ' << kPlaces[static_cast<std::size_t>(buffer.place)] << '\n';
  }
  for (const ParamSpec& param : params) {
    if (param.is_buffer) {
      out << "//! pointer " << param.buffer << '\n';
      continue;
    }
    out << "//! bytes " << param.align << ' ';
    for (const std::uint8_t byte : param.bytes)
      out << std::hex << std::setw(2) << std::setfill('0') << unsigned{byte};
    out << std::dec << '\n';
  }
  out << ptx;
  return out.str();
}

std::expected<FuzzCase, std::string> FuzzCase::parse(const std::string& text) {
  FuzzCase result;
  result.ptx = text;  // the directives are comments: error messages keep the file's line numbers
  std::istringstream lines(text);
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (!line.starts_with("//! ")) continue;
    std::istringstream words(line.substr(4));
    std::string what;
    words >> what;
    bool good = true;
    if (what == "seed") {
      words >> result.seed;
    } else if (what == "grid") {
      words >> result.grid[0] >> result.grid[1] >> result.grid[2];
    } else if (what == "block") {
      words >> result.block[0] >> result.block[1] >> result.block[2];
    } else if (what == "shared") {
      words >> result.dynamic_shared_bytes;
    } else if (what == "level") {
      words >> result.opt_level;
    } else if (what == "off") {
      words >> result.switched_off.emplace_back();
    } else if (what == "buffer") {
      BufferSpec buffer;
      std::string fill;
      std::string place;
      words >> buffer.bytes >> fill >> buffer.seed >> place;
      good = find_word(fill, kFills, buffer.fill) && find_word(place, kPlaces, buffer.place);
      result.buffers.push_back(buffer);
    } else if (what == "pointer") {
      ParamSpec param;
      param.is_buffer = true;
      words >> param.buffer;
      good = param.buffer < result.buffers.size();
      result.params.push_back(param);
    } else if (what == "bytes") {
      ParamSpec param;
      std::string hex;
      words >> param.align >> hex;
      for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        param.bytes.push_back(static_cast<std::uint8_t>(std::stoul(hex.substr(i, 2), nullptr, 16)));
      }
      result.params.push_back(param);
    } else {
      good = false;
    }
    if (!good || words.fail()) {
      return std::unexpected("line " + std::to_string(number) + ": `" + line + "` says nothing known");
    }
  }
  return result;
}

}  // namespace vgpu::testing::fuzz
