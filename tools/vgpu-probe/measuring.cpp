// The frame around measurements.
#include "tools/vgpu-probe/measuring.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tools/vgpu-probe/answer.h"
#include "tools/vgpu-probe/places.h"
#include "tools/vgpu-probe/terminal.h"

namespace vgpu::tools {

using nlohmann::ordered_json;

namespace {

int fail(const Trouble& trouble, bool json) {
  return answer_failure(trouble.advice.empty() ? trouble.text : trouble.text + "; " + trouble.advice, json);
}

}  // namespace

int for_each_mapping(const Request& request, const char* what,
                     const std::function<Try<ordered_json>(Client&)>& measure) {
  const auto place = choose_place(request.device, request.guests_directory, Use::kProgram);
  if (!place) return answer_failure(place.error(), request.json);
  end_cleanly_on_lost_memory();
  ordered_json answer = {{"path", place->location.path}};
  auto& mappings = answer["mappings"] = ordered_json::array();
  for (const auto& file : mapping_files(place->location)) {
    auto bar = pci::Bar::open_path(file, pci::Access::kReadWrite);
    if (!bar) return answer_failure(bar.error().text, request.json);
    auto client = Client::over(std::move(*bar));
    if (!client) return fail(client.error(), request.json);
    const char* const kind = pci::mapping_kind_name((*client)->attachment().mapping());
    if (!request.json) {
      fmt::print("{}", paragraph(0, "", 0, fmt::format("{} of {}, mapped {}", what, printable(file), kind)));
      std::fflush(stdout);
    }
    auto measured = measure(**client);
    if (!measured) return fail(measured.error(), request.json);
    ordered_json one = {{"file", file}, {"kind", kind}};
    one.update(*measured);
    mappings.push_back(std::move(one));
    if (!request.json && file != mapping_files(place->location).back()) fmt::print("\n");
  }
  if (request.json) answer_json(answer);
  return 0;
}

}  // namespace vgpu::tools
