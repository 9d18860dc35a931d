// Compiling in tests, where it must work (or the test ends) or must be refused.
#pragma once

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "grammar/grammar.h"

namespace smelt {

inline Grammar compiled(const GrammarSpec& spec, const GrammarOptions& options = {}) {
    const auto result = compile_grammar(spec, options);
    if (const auto* g = std::get_if<Grammar>(&result)) return *g;
    throw std::runtime_error(std::get<GrammarError>(result).message());
}

inline GrammarError refused(const GrammarSpec& spec) {
    const auto result = compile_grammar(spec);
    if (const auto* e = std::get_if<GrammarError>(&result)) return *e;
    ADD_FAILURE() << "compiled: " << spec.value << to_string(spec.schema);
    return {};
}

}  // namespace smelt
