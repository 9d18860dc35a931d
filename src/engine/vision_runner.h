// Features of pictures: a step of its own for each picture, whose tokens are patches.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "image/patches.h"
#include "model/vision_tower.h"

namespace smelt {

// (n_tokens, len) of a picture.
struct Features {
    int64_t len = 0;
    std::vector<float> values;
    std::span<const float> row(int i) const {
        return std::span(values).subspan(static_cast<size_t>(i * len), static_cast<size_t>(len));
    }
};

class VisionRunner {
 public:
    // Borrows both.
    VisionRunner(const VisionTower& tower, Backend& backend) : tower_(tower), backend_(backend) {}

    // While no step is under way. The latest are kept. Throws Error where there is too little memory.
    std::shared_ptr<const Features> features(const Patches& patches);

 private:
    std::shared_ptr<const Features> compute(const Patches& patches);

    struct Kept {
        std::array<uint32_t, 8> digest;
        std::shared_ptr<const Features> features;
    };
    const VisionTower& tower_;
    Backend& backend_;
    std::vector<std::unique_ptr<KvStorage>> kv_;  // one, of all layers
    std::list<Kept> kept_;                        // the latest first
};

}  // namespace smelt
