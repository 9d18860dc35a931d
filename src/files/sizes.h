// Shapes of the families' tables, with the numbers of one model in them.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "files/family.h"

namespace smelt {

class Metadata;

// One dimension of a shape.
struct Extent {
    int64_t n = 0;  // its length: parts * pieces * unit
    // Where it may be cut: into `parts` equal parts, each of them between pieces of `unit`.
    bool may_be_cut = false;
    int64_t unit = 1, parts = 1;
};

class Sizes {
 public:
    Sizes(const Family& family, const Metadata& metadata);

    // 0 where the model does not say. Numbers from files may be anything up to limits::size.
    int64_t operator[](std::string_view name) const;
    std::vector<Extent> extents(std::string_view shape) const;
    std::vector<int64_t> shape(std::string_view text) const;

 private:
    int64_t sum(std::string_view text) const;
    int64_t product(std::string_view text) const;

    std::map<std::string, int64_t, std::less<>> values_;
};

// The shape with other names for the sizes, and without brackets: "num_attention_heads * head_dim".
std::vector<std::string> spelled_out(const Family& family, std::string_view shape);

}  // namespace smelt
