// The machine in parts, of machines that hwloc makes up.
#include "pci/topology.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace vgpu::pci::test {
namespace {

class MadeUpMachine {
 public:
  explicit MadeUpMachine(const char* description) { ::setenv("HWLOC_SYNTHETIC", description, 1); }
  ~MadeUpMachine() { ::unsetenv("HWLOC_SYNTHETIC"); }
  MadeUpMachine(const MadeUpMachine&) = delete;
  MadeUpMachine& operator=(const MadeUpMachine&) = delete;
};

std::size_t count(const MachinePart& part, MachinePart::Kind kind) {
  std::size_t found = part.kind == kind ? 1 : 0;
  for (const auto& inner : part.parts) found += count(inner, kind);
  return found;
}

TEST(Topology, EveryPartOfAMachineIsThere) {
  const MadeUpMachine made_up("package:2 numa:1 l3:2 core:4 pu:2");
  const auto machine = machine_parts({});
  ASSERT_TRUE(machine) << machine.error().text;
  EXPECT_EQ(machine->kind, MachinePart::Kind::kMachine);
  EXPECT_EQ(machine->cpus.size(), 32U);
  EXPECT_EQ(count(*machine, MachinePart::Kind::kPackage), 2U);
  EXPECT_EQ(count(*machine, MachinePart::Kind::kNumaNode), 2U);
  EXPECT_EQ(count(*machine, MachinePart::Kind::kCache), 4U);
  EXPECT_EQ(count(*machine, MachinePart::Kind::kCore), 16U);
  EXPECT_EQ(count(*machine, MachinePart::Kind::kProcessor), 32U);
  EXPECT_EQ(count(*machine, MachinePart::Kind::kPciDevice), 0U);
  const MachinePart& package = machine->parts.at(1);
  EXPECT_EQ(package.cpus.front(), 16U);
  EXPECT_EQ(package.cpus.back(), 31U);
}

TEST(Topology, ADeviceThatTheMachineLacksIsLeftOut) {
  const auto machine = machine_parts({{0, 0xfe, 0x1f, 7}});
  ASSERT_TRUE(machine) << machine.error().text;
  EXPECT_EQ(count(*machine, MachinePart::Kind::kPciDevice), 0U);
  EXPECT_GE(count(*machine, MachinePart::Kind::kProcessor), 1U);
}

TEST(Topology, MemoryBehindAFileHasANodeAndAHoleHasNone) {
  const std::string path = "/dev/shm/vgpu-test-topology-" + std::to_string(::getpid());
  std::ofstream(path, std::ios::binary) << std::string(1 << 16, 'x');
  const auto nodes = file_numa_nodes(path, 1 << 20);
  EXPECT_LE(nodes.size(), 1024U);
  for (const uint32_t node : nodes) EXPECT_LT(node, 1024U);
  std::ofstream(path, std::ios::binary | std::ios::trunc).close();
  EXPECT_TRUE(file_numa_nodes(path, 1 << 20).empty());
  std::filesystem::remove(path);
  EXPECT_TRUE(file_numa_nodes(path, 1 << 20).empty());
}

}  // namespace
}  // namespace vgpu::pci::test
