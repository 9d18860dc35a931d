// A picture in a prompt: which tokens are its places, what these are called in caches, and the positions by
// which the tokens around it are rotated.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "image/patches.h"

namespace smelt {

// The tokens [first, first + patches->n_tokens()) of a prompt are places of the picture.
struct Picture {
    std::shared_ptr<const Patches> patches;
    int first = 0;

    int end() const { return first + patches->n_tokens(); }
};

// A place has an id beyond every vocabulary, made of the picture's digest: equal ids mean equal pictures, so
// that prefixes are shared with those alone.
inline constexpr int32_t first_place_id = 1 << 30;
int32_t place_id(const Patches& patches, int place);
// The prompt with those ids in the pictures' places.
void name_places(std::span<int32_t> tokens, std::span<const Picture> pictures);

// Of a prompt in which every place of the pictures is `image_token`: which of them are whose, in order.
// Throws Error where they do not fit.
std::vector<Picture> find_places(std::span<const int32_t> tokens, int32_t image_token,
                                 std::span<const std::shared_ptr<const Patches>> pictures);

// Time, row and column of a token. A text's tokens have the same number three times; a picture is one moment,
// of rows and columns from there on, and what follows begins behind its longer side.
class RopePositions {
 public:
    RopePositions() = default;
    explicit RopePositions(std::span<const Picture> pictures);

    std::array<int32_t, 3> at(int token) const;
    bool empty() const { return parts_.empty(); }

 private:
    struct Part {
        int first, end;  // tokens
        int32_t start;   // position of the first
        int32_t columns;
        int32_t length;  // positions
    };
    std::vector<Part> parts_;
};

}  // namespace smelt
