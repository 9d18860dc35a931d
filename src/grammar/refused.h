// How front ends and builder leave when a grammar cannot be enforced; compile_grammar() makes a value of it.
#pragma once

#include <fmt/format.h>

#include "grammar/grammar.h"

namespace smelt::grammar {

struct Refused {
    GrammarError error;
};

[[noreturn]] inline void refuse(std::string path, std::string keyword, std::string text) {
    throw Refused{{std::move(path), std::move(keyword), std::move(text)}};
}

}  // namespace smelt::grammar
