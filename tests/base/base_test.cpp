#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/byte_reader.h"
#include "base/edit_distance.h"
#include "base/half.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "base/thread_pool.h"

namespace smelt {
namespace {

TEST(EditDistance, CountsLettersAddedLeftOutChangedAndSwapped) {
    EXPECT_EQ(edit_distance("", "", 2), 0u);
    EXPECT_EQ(edit_distance("run", "run", 2), 0u);
    EXPECT_EQ(edit_distance("rnu", "run", 2), 1u);
    EXPECT_EQ(edit_distance("temperature", "temprature", 2), 1u);
    EXPECT_EQ(edit_distance("serve", "service", 3), 2u);
    EXPECT_EQ(edit_distance("abc", "xyz", 2), 3u) << "at_most + 1 stands for all that is more";
    EXPECT_EQ(edit_distance("a", std::string(1 << 20, 'a'), 2), 3u);
    // Symmetric, and a triangle.
    const std::string words[] = {"top_k", "top_p", "topk", "to_pk", "min_p"};
    for (const auto& a : words) {
        for (const auto& b : words)
            EXPECT_EQ(edit_distance(a, b, 9), edit_distance(b, a, 9)) << a << " " << b;
    }
}

TEST(EditDistance, NearestWord) {
    const std::vector<std::string> flags = {"--temp", "--top-k", "--max-tokens", "--max-seqs", "-n"};
    EXPECT_EQ(nearest_word("--tmep", flags), "--temp");
    EXPECT_EQ(nearest_word("--max_tokens", flags), "--max-tokens");
    EXPECT_EQ(nearest_word("--max-tok", flags), "--max-tokens");
    EXPECT_EQ(nearest_word("--Temp", flags), "--temp");
    EXPECT_EQ(nearest_word("--colour", flags), "");
    EXPECT_EQ(nearest_word("-x", flags), "") << "one letter says nothing";
}

TEST(Half, EveryHalfSurvivesWideningAndNarrowing) {
    for (uint32_t bits = 0; bits < 0x10000; ++bits) {
        const float wide = f16_to_f32(static_cast<uint16_t>(bits));
        if (std::isnan(wide)) {
            EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(wide))));
        } else {
            EXPECT_EQ(f32_to_f16(wide), bits);
        }
    }
}

// Narrowing picks the nearer neighbour, the even one in the middle: checked against both neighbours of random
// floats.
TEST(Half, NarrowingRoundsToNearestEven) {
    uint64_t state = 1;
    for (int i = 0; i < 2'000'000; ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const float x = std::bit_cast<float>(static_cast<uint32_t>(state >> 32));
        if (std::isnan(x) || std::fabs(x) >= 65504.0f) continue;
        const uint16_t h = f32_to_f16(std::fabs(x));
        const double here = f16_to_f32(h), value = std::fabs(x);
        const double above = f16_to_f32(static_cast<uint16_t>(h + 1));
        const double error = std::fabs(here - value);
        ASSERT_LE(error, std::fabs(above - value)) << x;
        if (h > 0) {
            ASSERT_LE(error, std::fabs(f16_to_f32(static_cast<uint16_t>(h - 1)) - value)) << x;
        }
        if (error == std::fabs(above - value)) {
            ASSERT_EQ(h % 2, 0) << x;
        }
    }
    EXPECT_EQ(f32_to_f16(65519.9f), 0x7bff);
    EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
    EXPECT_EQ(f32_to_bf16(1.00390625f), 0x3f80);  // half way between 1 and the next bfloat16
    EXPECT_EQ(f32_to_bf16(1.01171875f), 0x3f82);
}

TEST(ByteReader, RefusesWhatIsNotThere) {
    const std::vector<std::byte> bytes(10);
    ByteReader r(bytes, "x.gguf");
    EXPECT_EQ(r.read<uint32_t>("magic"), 0u);
    EXPECT_THROW(r.read<uint64_t>("count"), Error);
    EXPECT_THROW(r.check_count(uint64_t{1} << 62, 8, "tensors"), Error);
    EXPECT_THROW(r.take(~uint64_t{0}, "data"), Error);
    try {
        r.take(7, "name");
        FAIL();
    } catch (const Error& e) {
        EXPECT_STREQ(e.what(), "x.gguf: offset 4: name: expected 7 bytes, the file has 6 left");
    }
}

TEST(Json, LimitsSizeAndDepth) {
    EXPECT_EQ(parse_json(R"({"b":1,"a":["x"]})", "t").dump(), R"({"b":1,"a":["x"]})");
    EXPECT_THROW(parse_json(std::string(65, '[') + std::string(65, ']'), "t"), Error);
    EXPECT_NO_THROW(parse_json(std::string(64, '[') + std::string(64, ']'), "t"));
    EXPECT_THROW(parse_json("\"\xff\"", "t"), Error);
    EXPECT_THROW(parse_json("[1,2]", "t", {.max_bytes = 4}), Error);
    EXPECT_NO_THROW(parse_json(R"({"a":1,"b":[1,2,3,4]})", "t", {.max_members = 2}));
    EXPECT_THROW(parse_json(R"({"a":1,"b":2,"c":3})", "t", {.max_members = 2}), Error);
    EXPECT_NO_THROW(parse_json(R"(["]]]][[[[\"[[["])", "t", {.max_depth = 1}));
}

TEST(AtomicFile, TargetIsWholeOrUntouched) {
    const auto path = std::filesystem::temp_directory_path() / "smelt_atomic_file_test";
    const auto content = [&] { return std::string(MappedFile(path).text()); };
    {
        AtomicFile f(path);
        f.write("old");
        f.commit();
    }
    {
        AtomicFile f(path);
        f.write("half of the new");
    }
    EXPECT_EQ(content(), "old");
    {
        AtomicFile f(path);
        f.write("new");
        f.write_zeros(5000);
        f.commit();
    }
    EXPECT_EQ(content(), "new" + std::string(5000, '\0'));
    EXPECT_THROW(AtomicFile("/nonexistent/folder/file"), Error);
    std::filesystem::remove(path);
}

TEST(AtomicFile, WhatAKilledProcessLeftIsRemoved) {
    namespace fs = std::filesystem;
    const fs::path folder = fs::temp_directory_path() / fmt::format("smelt_partials_{}", ::getpid());
    fs::create_directories(folder / "model.partial-2147483646" / "sub");
    const auto old = fs::file_time_type::clock::now() - std::chrono::hours(1);
    const auto put = [&](const std::string& name, bool is_old) {
        std::ofstream(folder / name) << "half";
        if (is_old) fs::last_write_time(folder / name, old);
    };
    put("model.partial-2147483645", true);
    put("model.partial-2147483644", false);  // by a process of another machine, perhaps
    put(fmt::format("model.partial-{}", ::getppid()), true);
    put("model.partial-x", true);
    put("other.partial-2147483645", true);
    fs::last_write_time(folder / "model.partial-2147483646", old);
    fs::last_write_time(folder / "model.partial-2147483646" / "sub", old);
    AtomicFile f(folder / "model");
    f.write("new");
    f.commit();
    std::set<std::string> left;
    for (const auto& e : fs::directory_iterator(folder)) left.insert(e.path().filename().string());
    EXPECT_EQ(left, (std::set<std::string>{"model", "model.partial-2147483644", "model.partial-x",
                                           "other.partial-2147483645",
                                           fmt::format("model.partial-{}", ::getppid())}));
    fs::remove_all(folder);
}

TEST(ThreadPool, EveryMemberRunsAndBarriersOrderWrites) {
    for (const int n : {1, 2, 3, 7}) {
        ThreadPool pool(n);
        std::vector<int> a(static_cast<size_t>(n)), b(static_cast<size_t>(n));
        for (int round = 0; round < 200; ++round) {
            pool.run([&](int member) {
                a[static_cast<size_t>(member)] = round + member;
                pool.barrier();
                b[static_cast<size_t>(member)] = std::accumulate(a.begin(), a.end(), 0);
            });
            for (const int sum : b) ASSERT_EQ(sum, n * round + n * (n - 1) / 2);
        }
    }
}

}  // namespace
}  // namespace smelt
