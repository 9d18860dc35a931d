// Failures are known by their words; tests make each of them happen.
#include "apps/remedy.h"

namespace smelt {

namespace {

struct Remedy {
    const char *words, *text;
};
constexpr Remedy remedies[] = {
    {"KV cache of ", "; -c (serve: --kv-tokens) takes fewer tokens, --kv q8_0 fewer bytes for each"},
    {" of weights and KV cache do not fit",
     "; --memory-budget allows more, a smaller --kv-tokens or --kv q8_0 needs less"},
    {"tokens: expected at most ", "; -c takes a larger context, --rope-scaling yarn stretches it"},
};

}  // namespace

std::string remedy_for(const std::string& failure) {
    for (const Remedy& r : remedies) {
        if (failure.find(r.words) != std::string::npos) return r.text;
    }
    return "";
}

}  // namespace smelt
