// Folders as Linux has them, of both versions, against what is read of them.
#include "base/control_group.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace smelt {
namespace {

namespace fs = std::filesystem;

class ControlGroup : public testing::Test {
 protected:
    ControlGroup()
        : root_(fs::temp_directory_path() / ("smelt_control_group_" + std::to_string(::getpid()))) {
        fs::create_directories(root_);
    }
    ~ControlGroup() override { fs::remove_all(root_); }
    void put(const std::string& path, const std::string& text) {
        fs::create_directories((root_ / path).parent_path());
        std::ofstream(root_ / path) << text;
    }
    ControlGroupLimits read() { return read_control_group((root_ / "self").string(), root_.string()); }

    const fs::path root_;
};

TEST_F(ControlGroup, NoneIsNoLimit) {
    const ControlGroupLimits l = read();
    EXPECT_EQ(l.memory, UINT64_MAX);
    EXPECT_EQ(l.available, UINT64_MAX);
    EXPECT_EQ(l.cores, 0);
}

TEST_F(ControlGroup, VersionTwoWithTheGroupsAbove) {
    put("self", "0::/system.slice/smelt.service\n");
    put("system.slice/smelt.service/memory.max", "max\n");
    put("system.slice/smelt.service/cpu.max", "250000 100000\n");
    put("system.slice/memory.max", "1000\n");
    put("system.slice/memory.current", "700\n");
    put("system.slice/memory.stat", "anon 300\nactive_file 150\ninactive_file 250\n");
    put("system.slice/cpu.max", "max 100000\n");
    const ControlGroupLimits l = read();
    EXPECT_EQ(l.memory, 1000u);
    EXPECT_EQ(l.available, 700u);  // of 700 bytes in use 400 are pages of files
    EXPECT_EQ(l.cores, 3);         // 2.5 rounded
}

TEST_F(ControlGroup, TheTightestCounts) {
    put("self", "0::/a/b\n");
    put("a/b/memory.max", "500\n");
    put("a/b/memory.current", "100\n");
    put("a/memory.max", "5000\n");
    put("a/memory.current", "4900\n");
    put("a/b/cpu.max", "800000 100000\n");
    put("a/cpu.max", "40000 100000\n");
    const ControlGroupLimits l = read();
    EXPECT_EQ(l.memory, 500u);
    EXPECT_EQ(l.available, 100u);
    EXPECT_EQ(l.cores, 1);
}

TEST_F(ControlGroup, AContainerSeesItsRoot) {
    put("self", "0::/../../docker/0123abcd\n");
    put("memory.max", "4096\n");
    EXPECT_EQ(read().memory, 4096u);
}

TEST_F(ControlGroup, VersionOne) {
    put("self", "5:cpu,cpuacct:/box\n4:memory:/box\n2:devices:/other\n0::/\n");
    put("memory/box/memory.limit_in_bytes", "536870912\n");
    put("memory/box/memory.usage_in_bytes", "100\n");
    put("memory/box/memory.stat", "active_file 1\ntotal_active_file 30\ntotal_inactive_file 10\n");
    put("cpu/box/cpu.cfs_quota_us", "-1\n");
    put("cpu/box/cpu.cfs_period_us", "100000\n");
    const ControlGroupLimits l = read();
    EXPECT_EQ(l.memory, 536870912u);
    EXPECT_EQ(l.available, 536870912u - 60);
    EXPECT_EQ(l.cores, 0);
}

TEST_F(ControlGroup, OddFilesAreNoLimit) {
    put("self", "no colon\n0:\n0::\n9:memory\n0::/x\n");
    put("x/memory.max", "many\n");
    put("x/cpu.max", "1\n");
    put("x/memory.stat", "active_file x\n");
    const ControlGroupLimits l = read();
    EXPECT_EQ(l.memory, UINT64_MAX);
    EXPECT_EQ(l.cores, 0);
}

}  // namespace
}  // namespace smelt
