// What doctor and the server say of GPUs, with a management library that has two.
#include <gtest/gtest.h>

#include "apps/command.h"
#include "apps/serve_process.h"

namespace smelt {
namespace {

const std::string model = SMELT_MODELS "/demo-5m";

TEST(Gpus, DoctorSaysWhatTheyAreAndDo) {
    ::setenv("LD_LIBRARY_PATH", SMELT_FAKE_NVML, 1);
    const CommandResult text = smelt_command("doctor --device cpu"),
                        json = smelt_command("doctor --device cpu --json");
    ::unsetenv("LD_LIBRARY_PATH");
    EXPECT_NE(
        text.out.find("Card of a test, driver 999.1, 25.0 GB of 80.0 GB in use, 7 % busy, 61 °C, 50 W\n"),
        std::string::npos)
        << text.out;
    // The second has no sensor.
    EXPECT_NE(text.out.find("in use, 83 % busy, 412 W\n"), std::string::npos) << text.out;
    const Json gpus = parse_json(json.out, "doctor")["gpus"];
    ASSERT_EQ(gpus.size(), 2u);
    EXPECT_EQ(gpus[0]["celsius"], 61);
    EXPECT_EQ(gpus[1]["celsius"], Json(nullptr));
}

TEST(Gpus, TheServerSaysItInHealthPerformanceAndMetrics) {
    Process p({model, "--port", "0", "--device", "cpu"},
              {.environment = {{"LD_LIBRARY_PATH", SMELT_FAKE_NVML}}, .errors = ""});
    ASSERT_NE(p.address(), "") << p.errors();
    Client client(p.port());
    for (const char* path : {"/health", "/performance"}) {
        const Json gpus = client.ask("GET", path, "").json()["gpus"];
        ASSERT_EQ(gpus.size(), 2u) << path;
        EXPECT_EQ(gpus[1]["busy_percent"], 83) << path;
        EXPECT_EQ(gpus[1]["celsius"], Json(nullptr)) << path;
        EXPECT_EQ(gpus[0]["memory_used_bytes"], 25'000'000'000) << path;
    }
    const std::string metrics = client.ask("GET", "/metrics", "").body;
    for (const char* line : {"smelt_gpu_busy_percent{gpu=\"1\",name=\"Card of a test\"} 83\n",
                             "smelt_gpu_temperature_celsius{gpu=\"0\",name=\"Card of a test\"} 61\n",
                             "smelt_gpu_power_watts{gpu=\"1\",name=\"Card of a test\"} 412\n"})
        EXPECT_NE(metrics.find(line), std::string::npos) << line << metrics;
    EXPECT_EQ(metrics.find("smelt_gpu_temperature_celsius{gpu=\"1\""), std::string::npos);
}

TEST(Gpus, WithoutALibraryThereAreNone) {
    Process p({model, "--port", "0", "--device", "cpu"}, {.errors = ""});
    ASSERT_NE(p.address(), "") << p.errors();
    Client client(p.port());
    const Json health = client.ask("GET", "/health", "").json();
    EXPECT_TRUE(health["gpus"].is_array());
}

}  // namespace
}  // namespace smelt
