// Text for an 80-column terminal.
#include "tools/vgpu-probe/terminal.h"

#include <gtest/gtest.h>

#include "tools/vgpu-probe/topology_svg.h"

namespace vgpu::tools {
namespace {

TEST(Terminal, TextIsWrappedAtSpacesAndInsideLongWords) {
  EXPECT_EQ(wrapped("one two three", 8), (std::vector<std::string>{"one two", "three"}));
  EXPECT_EQ(wrapped("0123456789abc de", 8), (std::vector<std::string>{"01234567", "89abc de"}));
  EXPECT_EQ(wrapped("a\nb", 8), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(wrapped("", 8), std::vector<std::string>{""});
  EXPECT_EQ(wrapped("12345678 x", 8), (std::vector<std::string>{"12345678", "x"}));
}

TEST(Terminal, WhatOthersWroteCannotDriveTheTerminal) {
  EXPECT_EQ(printable("a\x1b[31mb\n\t\x7f"), "a?[31mb???");
  EXPECT_EQ(printable("gr\xc3\xbc\xc3\x9f"), "gr\xc3\xbc\xc3\x9f");
  EXPECT_EQ(printable("\xc2\x9b"
                      "2J"),
            "??2J");  // a control character in UTF-8
  EXPECT_EQ(printable("\xe2\x80\xae"
                      "evil"),
            "???evil");  // writing that turns around
  EXPECT_EQ(printable("\xc3"), "?");
  EXPECT_EQ(printable("\xc0\x80"), "??");
  EXPECT_EQ(printable("\xed\xa0\x80"), "???");
}

TEST(Terminal, TextIsCutByCharacters) {
  EXPECT_EQ(columns("gr\xc3\xbc\xc3\x9f"), 4U);
  EXPECT_EQ(cut("\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc\xc3\xbc", 4), "\xc3\xbc...");
  EXPECT_EQ(cut("four", 4), "four");
}

TEST(Terminal, QuantitiesAreInWords) {
  EXPECT_EQ(bytes_text(0), "0 bytes");
  EXPECT_EQ(bytes_text(1), "1 byte");
  EXPECT_EQ(bytes_text(1024), "1 KiB");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text(256 << 20), "256 MiB");
  EXPECT_EQ(bytes_text(~uint64_t{0}), "16.0 EiB");
  EXPECT_EQ(duration_text(140), "140 ns");
  EXPECT_EQ(duration_text(1900), "1.90 us");
  EXPECT_EQ(duration_text(12'300'000'000), "12.3 s");
  EXPECT_EQ(duration_text(7'500'000'000'000), "2 h 5 min");
  EXPECT_EQ(number_text(1234567), "1 234 567");
  EXPECT_EQ(number_text(999), "999");
  EXPECT_EQ(bar_text(0.5, 4), "##..");
  EXPECT_EQ(bar_text(7, 4), "####");
  EXPECT_EQ(bar_text(-1, 4), "....");
}

TEST(TopologySvg, DrawsEveryPartOnceAndEscapesItsName) {
  pci::MachinePart machine;
  machine.kind = pci::MachinePart::Kind::kMachine;
  pci::MachinePart package;
  package.kind = pci::MachinePart::Kind::kPackage;
  package.number = 0;
  package.model = "<CPU & \"co\">";
  pci::MachinePart core;
  core.kind = pci::MachinePart::Kind::kCore;
  core.number = 3;
  package.parts = {core};
  machine.parts = {package};
  const std::string svg = topology_svg(machine, nullptr);
  EXPECT_NE(svg.find("package 0 &lt;CPU &amp; &quot;co&quot;&gt;"), std::string::npos);
  EXPECT_NE(svg.find(">core 3<"), std::string::npos);
  EXPECT_EQ(svg.find("<CPU"), std::string::npos);
}

}  // namespace
}  // namespace vgpu::tools
