// JSON as models write it when they do not quite: raw line ends in strings, Python's words and quotes, commas
// and braces too many. Reads what a person would; strict JSON is base/json.h's.
#pragma once

#include <optional>
#include <string_view>

#include "base/json.h"

namespace smelt {

// The value that `text` begins with, which is taken off. `may_miss_ends`: the text is complete, so that
// missing braces at its end were forgotten. None: it is no JSON value.
std::optional<Json> take_lenient_json(std::string_view& text, bool may_miss_ends);

}  // namespace smelt
