// Comparing the tensors of two models.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>

#include "files/model_file.h"

namespace smelt {

using Tensors = std::map<std::string, const TensorView*>;

inline Tensors by_name(const ModelFile& model) {
    Tensors result;
    for (const TensorView& t : model.tensors) result[t.name] = &t;
    return result;
}

inline void expect_same_tensors(const ModelFile& a, const ModelFile& b) {
    const Tensors ta = by_name(a), tb = by_name(b);
    ASSERT_EQ(ta.size(), tb.size());
    for (const auto& [name, t] : ta) {
        ASSERT_TRUE(tb.contains(name)) << name;
        const TensorView& other = *tb.at(name);
        EXPECT_EQ(t->format, other.format) << name;
        EXPECT_EQ(t->shape, other.shape) << name;
        EXPECT_TRUE(std::ranges::equal(t->data, other.data)) << name;
    }
}

// The same tensors, but of stacked experts each by itself: blk.0.ffn_up_exps.weight as blk.0.ffn_up.E.weight.
inline ModelFile one_by_one(const ModelFile& model) {
    ModelFile result = model;
    std::erase_if(result.tensors, [](const auto& t) { return t.name.ends_with("_exps.weight"); });
    for (const TensorView& t : model.tensors) {
        const size_t at = t.name.find("_exps.weight");
        if (at == std::string::npos) continue;
        for (int64_t e = 0; e < t.shape[0]; ++e) {
            TensorView expert = t;
            expert.name = t.name.substr(0, at) + "." + std::to_string(e) + ".weight";
            expert.shape = {t.shape[1], t.shape[2]};
            const size_t n = t.data.size() / static_cast<size_t>(t.shape[0]);
            expert.data = t.data.subspan(n * static_cast<size_t>(e), n);
            result.tensors.push_back(std::move(expert));
        }
    }
    return result;
}

}  // namespace smelt
