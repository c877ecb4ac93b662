// Every case of tests/kernels on the oracle: its results must be those of plain C++.
#include <gtest/gtest.h>

#include <ostream>

#include "tests/device/software/oracle/oracle_runner.h"

namespace vgpu::testing::kernels {
// The name of a case, instead of its bytes, in messages and in ctest's list.
void PrintTo(const Case& test, std::ostream* out) {
  *out << test.name;
}

namespace {

class OracleCase : public ::testing::TestWithParam<Case> {};

TEST_P(OracleCase, GivesWhatPlainCppGives) {
  OracleRunner runner;
  const std::string difference = run(GetParam(), runner);
  EXPECT_EQ(difference, "");
}

INSTANTIATE_TEST_SUITE_P(Kernels, OracleCase, ::testing::ValuesIn(all_cases()),
                         [](const ::testing::TestParamInfo<Case>& parameter) {
                           return parameter.param.name;
                         });

}  // namespace
}  // namespace vgpu::testing::kernels
