// Weights that Hugging Face checkpoints keep as two tensors, NAME_blocks and NAME_scales (gpt-oss's MXFP4),
// as one.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "files/readers.h"

namespace smelt {

inline constexpr std::string_view blocks_ending = "_blocks", scales_ending = "_scales";

class Mxfp4Pairs {
 public:
    struct Part {
        SafetensorsEntry entry;
        std::string source;
    };
    struct Pair {
        Part blocks, scales;
    };

    // True: taken, for join(). Parts may come in any order and from different shards.
    bool take(const SafetensorsEntry& entry, const std::string& source);

    // By name without the ending: (..., rows, n_blocks, 16) and (..., rows, n_blocks) bytes. Throws Error
    // where they do not fit together.
    std::vector<Pair> join();
    // What was taken but has no counterpart; after join().
    std::vector<Part> rest() const { return rest_; }

 private:
    std::map<std::string, std::vector<Part>> parts_;
    std::vector<Part> rest_;
};

// Of the joined weight, without a name.
TensorView joined_view(const Mxfp4Pairs::Pair& pair);

}  // namespace smelt
