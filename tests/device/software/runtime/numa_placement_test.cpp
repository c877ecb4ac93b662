// Which nodes a worker gets, on machines that hwloc makes up.
#include "device/software/runtime/numa_placement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <hwloc.h>

#include <memory>
#include <numeric>
#include <stdexcept>

namespace vgpu::software {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// Processors are numbered in the order of the description: node by node.
class MadeUpMachine {
 public:
  explicit MadeUpMachine(const char* description) {
    hwloc_topology_t raw = nullptr;
    if (hwloc_topology_init(&raw) != 0) throw std::runtime_error("hwloc_topology_init");
    topology_.reset(raw);
    if (hwloc_topology_set_synthetic(raw, description) != 0 || hwloc_topology_load(raw) != 0) {
      throw std::runtime_error(description);
    }
  }
  hwloc_topology_t get() const { return topology_.get(); }

 private:
  struct Destroy {
    void operator()(hwloc_topology_t topology) const { hwloc_topology_destroy(topology); }
  };
  std::unique_ptr<hwloc_topology, Destroy> topology_;
};

std::vector<uint32_t> range(uint32_t first, uint32_t last) {
  std::vector<uint32_t> numbers(last - first + 1);
  std::iota(numbers.begin(), numbers.end(), first);
  return numbers;
}

std::optional<NumaPlacement> choose(const MadeUpMachine& machine, const NumaRequest& request) {
  auto place = choose_nodes(machine.get(), request);
  if (!place) throw std::runtime_error(place.error().reason);
  return std::move(*place);
}

std::string refusal(const MadeUpMachine& machine, const NumaRequest& request) {
  const auto place = choose_nodes(machine.get(), request);
  return place ? "no error" : place.error().reason;
}

constexpr const char* kTwoNodes = "numa:2 core:4 pu:2";   // 0-7 and 8-15
constexpr const char* kFourNodes = "numa:4 core:4 pu:1";  // 0-3, 4-7, 8-11, 12-15

TEST(NumaPlacement, AMachineOfOneNodeIsLeftAlone) {
  const MadeUpMachine machine("numa:1 core:4 pu:2");
  const auto all = range(0, 7);
  EXPECT_FALSE(choose(machine, {.cpus = all}));
  EXPECT_FALSE(choose(machine, {.threads = 3, .cpus = all}));
  EXPECT_FALSE(choose(machine, {.node = 0, .cpus = all}));
}

TEST(NumaPlacement, ThreadsThatFitGetOneNode) {
  const MadeUpMachine machine(kTwoNodes);
  const auto all = range(0, 15);
  for (const uint32_t threads : {0u, 1u, 8u}) {
    const auto place = choose(machine, {.threads = threads, .cpus = all});
    ASSERT_TRUE(place) << threads;
    EXPECT_THAT(place->nodes, ElementsAre(0)) << threads;
    EXPECT_EQ(place->cpus, range(0, 7)) << threads;
  }
}

TEST(NumaPlacement, BetweenNodesThatAreAsGoodItStaysWhereItRuns) {
  const MadeUpMachine machine(kTwoNodes);
  const auto all = range(0, 15);
  const auto place = choose(machine, {.threads = 4, .cpus = all, .running_on = 11});
  ASSERT_TRUE(place);
  EXPECT_THAT(place->nodes, ElementsAre(1));
  EXPECT_EQ(place->cpus, range(8, 15));
}

TEST(NumaPlacement, OnlyProcessorsThatTheProcessMayUseCount) {
  const MadeUpMachine machine(kTwoNodes);
  const auto of_one = range(10, 13);
  auto place = choose(machine, {.cpus = of_one});
  ASSERT_TRUE(place);
  EXPECT_THAT(place->nodes, ElementsAre(1));
  EXPECT_EQ(place->cpus, of_one);

  const auto mostly_of_the_second = range(6, 11);  // two of node 0, four of node 1
  place = choose(machine, {.cpus = mostly_of_the_second, .running_on = 6});
  ASSERT_TRUE(place);
  EXPECT_THAT(place->nodes, ElementsAre(1));
  EXPECT_EQ(place->cpus, range(8, 11));
}

TEST(NumaPlacement, MoreThreadsThanANodeHasSpanTheFewestNodes) {
  const MadeUpMachine machine(kFourNodes);
  const auto all = range(0, 15);
  auto place = choose(machine, {.threads = 5, .cpus = all, .running_on = 9});
  ASSERT_TRUE(place);
  EXPECT_THAT(place->nodes, ElementsAre(0, 2));
  EXPECT_EQ(place->cpus.size(), 8u);

  // Nodes of 4, 1, 2 and 4 usable processors: the two large ones do.
  const std::vector<uint32_t> some{0, 1, 2, 3, 4, 8, 9, 12, 13, 14, 15};
  place = choose(machine, {.threads = 7, .cpus = some});
  ASSERT_TRUE(place);
  EXPECT_THAT(place->nodes, ElementsAre(0, 3));
  EXPECT_THAT(place->cpus, ElementsAre(0, 1, 2, 3, 12, 13, 14, 15));
}

TEST(NumaPlacement, ThreadsThatNeedAllNodesAreNotBound) {
  const MadeUpMachine machine(kTwoNodes);
  const auto all = range(0, 15);
  EXPECT_FALSE(choose(machine, {.threads = 9, .cpus = all}));
  EXPECT_FALSE(choose(machine, {.threads = 100, .cpus = all}));
  const auto of_one = range(8, 11);
  EXPECT_FALSE(choose(machine, {.threads = 5, .cpus = of_one}));
}

TEST(NumaPlacement, WorkersSpreadByTheProcessorsThatNodesHave) {
  const MadeUpMachine machine(kTwoNodes);
  const auto cpus = range(4, 15);  // four of node 0, eight of node 1
  std::vector<NumaPlacement> placed;
  std::vector<uint32_t> nodes;
  for (int worker = 0; worker < 6; ++worker) {
    const auto place = choose(machine, {.threads = 4, .cpus = cpus, .running_on = 4, .others = placed});
    ASSERT_TRUE(place);
    ASSERT_EQ(place->nodes.size(), 1u);
    placed.push_back(*place);
    nodes.push_back(place->nodes.front());
  }
  EXPECT_THAT(nodes, ElementsAre(1, 0, 1, 1, 0, 1));
}

TEST(NumaPlacement, ANodeAskedForIsTaken) {
  const MadeUpMachine machine(kTwoNodes);
  const auto cpus = range(0, 11);
  // Even for more threads than it has processors.
  for (const uint32_t threads : {0u, 2u, 64u}) {
    const auto place = choose(machine, {.node = 1, .threads = threads, .cpus = cpus, .running_on = 0});
    ASSERT_TRUE(place) << threads;
    EXPECT_THAT(place->nodes, ElementsAre(1));
    EXPECT_EQ(place->cpus, range(8, 11));
  }
}

TEST(NumaPlacement, ANodeThatIsMissingOrOutOfReachIsAnError) {
  const MadeUpMachine machine(kTwoNodes);
  const auto all = range(0, 15);
  EXPECT_THAT(refusal(machine, {.node = 2, .cpus = all}),
              AllOf(HasSubstr("no NUMA node 2"), HasSubstr("there are 0, 1")));
  const std::vector<uint32_t> two{0, 1};
  EXPECT_THAT(refusal(machine, {.node = 1, .cpus = two}),
              AllOf(HasSubstr("NUMA node 1 has no processor"), HasSubstr("0, 1")));
}

// A second kind of memory beside the same processors (high bandwidth memory, say) is a node of its own.
TEST(NumaPlacement, NodesBesideTheSameProcessorsCountOnce) {
  const MadeUpMachine machine("[numa] package:2 [numa(memory=1GB)] [numa(memory=16GB)] core:4 pu:1");
  const auto all = range(0, 7);
  ASSERT_GT(hwloc_get_nbobjs_by_type(machine.get(), HWLOC_OBJ_NUMANODE), 2);
  const auto place = choose(machine, {.threads = 4, .cpus = all, .running_on = 6});
  ASSERT_TRUE(place);
  EXPECT_EQ(place->nodes.size(), 1u);
  EXPECT_EQ(place->cpus, range(4, 7));
}

}  // namespace
}  // namespace vgpu::software
