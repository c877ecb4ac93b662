// The device's answers about kernels, and the names in them.
#include "tools/vgpu-probe/kernel_figures.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace vgpu::tools {
namespace {

KernelFigures parse(std::string_view name, std::string_view counts, int32_t more_name = 0) {
  const std::string text = std::string(name) + std::string(counts);
  protocol::KernelFiguresReply reply;
  reply.name_bytes = static_cast<uint32_t>(static_cast<int32_t>(name.size()) + more_name);
  reply.count_bytes = static_cast<uint32_t>(counts.size());
  return kernel_figures(reply, std::as_bytes(std::span(text)));
}

TEST(KernelFigures, TakesNameAndCountsApart) {
  const auto kernel = parse("scale", "loads_uniform 3\nloads_gathered 12\n");
  EXPECT_EQ(kernel.name, "scale");
  EXPECT_EQ(kernel.function, "scale");
  EXPECT_EQ(kernel.count("loads_uniform"), 3U);
  EXPECT_EQ(kernel.count("loads_gathered"), 12U);
  EXPECT_EQ(kernel.count("unheard_of"), 0U);
  EXPECT_EQ(kernel_json(kernel)["counts"]["loads_gathered"], 12);
}

TEST(KernelFigures, LeavesOutWhatIsNoCount) {
  const auto kernel = parse("k", "a 1\nb\n 2\nc x\nd 99999999999999999999999\n\ne 5");
  ASSERT_EQ(kernel.counts.size(), 2U);
  EXPECT_EQ(kernel.count("a"), 1U);
  EXPECT_EQ(kernel.count("e"), 5U);
}

TEST(KernelFigures, SurvivesLengthsThatDoNotFitTheText) {
  EXPECT_EQ(parse("name", "a 1\n", 1000).name, "namea 1\n");
  EXPECT_TRUE(parse("name", "a 1\n", 1000).counts.empty());
  EXPECT_EQ(kernel_figures({}, {}).name, "");
}

TEST(KernelFigures, NamesFunctionsAsTheirSourceDoes) {
  EXPECT_EQ(function_of("_Z9block_sumPKfPf"), "block_sum");
  EXPECT_EQ(function_of("_Z5scaleILi4ELb1EEvPKvi"), "scale<4, true>");
  EXPECT_EQ(function_of("_ZN4math3addEPf"), "math::add");
  EXPECT_EQ(function_of("_Z4callPFviE"), "call");
  EXPECT_EQ(function_of("plain_name"), "plain_name");
  EXPECT_EQ(function_of("_Znonsense"), "_Znonsense");
  EXPECT_EQ(function_of(""), "");
}

}  // namespace
}  // namespace vgpu::tools
