// Samplers for the threads of a pool: their scratch is as long as a vocabulary.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "sampling/sampler.h"

namespace smelt::cpu {

class SamplerPool {
 public:
    // One for each member, for rows of this length. Stays where it is.
    std::vector<Sampler>& for_vocabulary(int n_members, int vocab_size) {
        std::vector<Sampler>& samplers = by_size_[vocab_size];
        while (samplers.size() < static_cast<size_t>(n_members)) samplers.emplace_back(vocab_size);
        return samplers;
    }

 private:
    std::map<int, std::vector<Sampler>> by_size_;
};

}  // namespace smelt::cpu
