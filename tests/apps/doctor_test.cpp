// smelt doctor, through the binary.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "apps/command.h"
#include "base/json.h"

namespace smelt {
namespace {

TEST(Doctor, SaysWhatIsHereAndWhyTheRestIsNot) {
    const CommandResult r = smelt_command("doctor --threads 1 --json");
    ASSERT_EQ(r.status, 0) << r.err;
    const Json j = parse_json(r.out, "doctor");
    EXPECT_GT(j["memory"]["total_bytes"].get<uint64_t>(), 0u);
    EXPECT_GT(j["memory"]["read_bytes_per_s"].get<double>(), 1e8);
    EXPECT_EQ(j["memory"]["read_threads"], 1);
    EXPECT_GE(j["processor"]["physical_cores"].get<int>(), 1);
    bool has_cpu = false;
    for (const Json& device : j["devices"]) {
        has_cpu = has_cpu || (device["name"] == "cpu" && device["usable"] == true);
        EXPECT_NE(device.contains("missing"), device["usable"].get<bool>()) << device;
    }
    EXPECT_TRUE(has_cpu) << r.out;
    EXPECT_FALSE(j["used"]["description"].get<std::string>().empty());
}

TEST(Doctor, MeasuresWhatTheProcessorCanMultiply) {
    const CommandResult r = smelt_command("doctor --threads 1 --measure --json");
    ASSERT_EQ(r.status, 0) << r.err;
    const Json j = parse_json(r.out, "doctor");
    EXPECT_FALSE(j["memory"]["read_way"].get<std::string>().empty());
    double f32 = 0, int8 = 0;
    for (const Json& peak : j["peak_rates"]) {
        const auto rate = peak["operations_per_s"].get<double>();
        EXPECT_GT(rate, 1e8) << peak;
        EXPECT_LT(rate, 1e14) << peak;
        if (peak["type"] == "f32") f32 = std::max(f32, rate);
        if (peak["type"] == "int8") int8 = std::max(int8, rate);
    }
    // Every instruction set with products of bytes does more of them than of floats.
    if (int8 > 0) {
        EXPECT_GT(int8, f32);
    }
}

TEST(Doctor, NamesADeviceThatIsNotHere) {
    const CommandResult r = smelt_command("doctor --device abacus");
    EXPECT_EQ(r.status, 1);
    EXPECT_NE(r.err.find("abacus"), std::string::npos) << r.err;
    EXPECT_NE(r.err.find("cpu"), std::string::npos) << r.err;
    EXPECT_EQ(r.out, "");
}

TEST(Doctor, TextNamesTheProcessorsInstructionSets) {
    const CommandResult r = smelt_command("doctor --threads 1");
    ASSERT_EQ(r.status, 0) << r.err;
    for (const char* part : {"processor", "memory", "devices", "versions", "used"}) {
        EXPECT_NE(r.out.find(part), std::string::npos) << part;
    }
}

}  // namespace
}  // namespace smelt
