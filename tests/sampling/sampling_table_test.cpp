// The table of sampling parameters: every row names one member, and what it sets is what is read.
#include "sampling/sampling_table.h"

#include <gtest/gtest.h>

#include <set>

#include "base/json.h"

namespace smelt {
namespace {

TEST(SamplingTable, EveryRowHasOneMemberOfItsOwn) {
    std::set<std::string_view> names;
    for (const SamplingParam& row : sampling_table()) {
        EXPECT_NE(row.number != nullptr, row.integer != nullptr) << row.name;
        for (const std::string_view name : {row.name, row.also}) {
            EXPECT_TRUE(name.empty() || names.insert(name).second) << name;
        }
        EXPECT_TRUE(row.doc.ends_with(".")) << row.name;
        EXPECT_LE(row.min, row.openai_min) << row.name;
        EXPECT_LE(row.openai_max, row.max) << row.name;
        // No other row changes what this one set.
        SamplingParams changed;
        row.set(changed, row.max);
        for (const SamplingParam& other : sampling_table()) {
            if (&other == &row) continue;
            EXPECT_EQ(other.get(changed), other.get({})) << row.name << " sets " << other.name;
        }
    }
}

TEST(SamplingTable, DefaultsAreThoseOfTheEngine) {
    for (const SamplingParam& row : sampling_table()) {
        if (row.fallback.empty()) continue;
        EXPECT_FLOAT_EQ(static_cast<float>(row.get({})), Json::parse(row.fallback).get<float>()) << row.name;
    }
}

TEST(SamplingTable, LimitsAreAcceptedAndWhatIsBeyondThemIsNot) {
    for (const SamplingParam& row : sampling_table()) {
        for (const double value : {row.min, row.max}) {
            SamplingParams p;
            row.set(p, value);
            EXPECT_EQ(check_sampling(p, 10), "") << row.name;
        }
        SamplingParams p;
        if (row.number != nullptr) {
            p.*row.number = static_cast<float>(row.max) + 1;
            EXPECT_TRUE(check_sampling(p, 10).starts_with(row.name)) << row.name;
            p.*row.number = static_cast<float>(row.min) - 1;
        } else {
            p.*row.integer = -2;
        }
        EXPECT_TRUE(check_sampling(p, 10).starts_with(row.name)) << row.name;
    }
}

TEST(SamplingTable, APersonsSpellingsFindTheRow) {
    for (const char* name : {"temperature", "temp"})
        EXPECT_EQ(find_sampling_param(name)->name, "temperature");
    for (const char* name : {"top-k", "top_k"}) EXPECT_EQ(find_sampling_param(name)->name, "top_k");
    for (const char* name : {"repeat_penalty", "repeat-penalty", "repetition_penalty"}) {
        EXPECT_EQ(find_sampling_param(name)->name, "repetition_penalty");
    }
    for (const char* name : {"", "to", "top", "penalty", "k"})
        EXPECT_EQ(find_sampling_param(name), nullptr) << name;
}

TEST(SamplingChanges, TheLaterOneOfAParameterCounts) {
    SamplingChanges changes;
    changes.set(*find_sampling_param("temperature"), 1.5);
    changes.set(*find_sampling_param("top_k"), -1);
    changes.set(*find_sampling_param("temperature"), 0.5);
    SamplingParams p{.temperature = 0.9f, .top_k = 20, .top_p = 0.8f};
    changes.apply(p);
    EXPECT_FLOAT_EQ(p.temperature, 0.5f);
    EXPECT_EQ(p.top_k, 0) << "-1: all";
    EXPECT_FLOAT_EQ(p.top_p, 0.8f) << "the model's own";
}

}  // namespace
}  // namespace smelt
