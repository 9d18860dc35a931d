// Everything about a request that can be refused before it runs.
#include "engine/request.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace smelt {

namespace {

constexpr int max_logprobs = 1000;  // far above OpenAI's 20, far below what would slow a step
constexpr int max_priority = 100;

struct IntRange {
    const char* name;
    int value, min, max;
};

// Of a prompt with pictures: each place has its id, and nothing else has one of the kind.
std::string check_pictures(const Request& r, const RequestLimits& limits) {
    if (r.pictures.empty()) return "";
    if (!limits.pictures) return "pictures: this model takes none";
    if (r.n_prompt_logprobs >= 0) return "n_prompt_logprobs: expected none beside pictures";
    if (r.pooling != Pooling::none) return "pooling: expected none beside pictures";
    int end = 0;
    for (const Picture& p : r.pictures) {
        if (p.first < end || p.end() > static_cast<int>(r.tokens.size()))
            return fmt::format("pictures: expected places among {} tokens, in order", r.tokens.size());
        end = p.end();
    }
    std::vector<int32_t> named = r.tokens;
    for (int32_t& id : named) id = std::min(id, first_place_id - 1);
    name_places(named, r.pictures);
    return named == r.tokens ? "" : "tokens: expected the ids of name_places() in the pictures' places";
}

std::string check_adapters(const Request& r, const RequestLimits& limits) {
    // Each makes every token of the step dearer.
    constexpr size_t most = 8;
    if (r.adapters.size() > most)
        return fmt::format("lora: expected at most {} adapters, found {}", most, r.adapters.size());
    for (const AdapterUse& use : r.adapters) {
        if (!use.adapter || use.adapter->number < 1 || use.adapter->number > limits.n_adapters)
            return "lora: expected an adapter of this model";
        if (!std::isfinite(use.scale)) return "lora: expected a scale that is finite";
    }
    return "";
}

std::string check_ids(const char* name, const std::vector<int32_t>& ids, int vocab_size) {
    for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] < 0 || ids[i] >= vocab_size) {
            return fmt::format("{}[{}]: expected ids 0 to {}, found {}", name, i, vocab_size - 1, ids[i]);
        }
    }
    return "";
}

}  // namespace

const char* to_string(FinishReason reason) {
    switch (reason) {
        case FinishReason::stop_id:
            return "stop_id";
        case FinishReason::length:
            return "length";
        case FinishReason::context:
            return "context";
        case FinishReason::complete:
            return "complete";
        case FinishReason::cancelled:
            return "cancelled";
        case FinishReason::error:
            return "error";
    }
    return "";
}

uint64_t prefix_salt(const Request& request) {
    uint64_t salt = request.cache_salt;
    for (const AdapterUse& use : request.adapters)
        salt = random_bits(salt, use.adapter->hash, std::bit_cast<uint32_t>(use.scale));
    return salt;
}

int RequestLimits::max_beam_tokens(int n_prompt, int width) const {
    // Each text ends in a block of its own, begins in one, and needs one more as it grows.
    const int n_shared = (n_prompt + block_len - 1) / block_len;
    const int own = (kv_tokens / block_len - n_shared) / width - 3;
    return std::min(n_ctx - n_prompt, own * block_len);
}

std::string check_request(const Request& r, const RequestLimits& limits) {
    if (!r.sink) return "sink: expected a function, found none";
    if (r.tokens.empty()) return "tokens: expected 1 or more, found none";
    if (r.tokens.size() >= static_cast<size_t>(limits.max_tokens())) {
        return fmt::format(
            "tokens: expected at most {} so that one more fits (context {}, KV cache {} tokens), found {}",
            limits.max_tokens() - 1, limits.n_ctx, limits.kv_tokens, r.tokens.size());
    }
    const int max_int = std::numeric_limits<int>::max();
    for (const IntRange& i :
         {IntRange{"max_tokens", r.max_tokens, -1, max_int}, IntRange{"min_tokens", r.min_tokens, 0, max_int},
          IntRange{"n_logprobs", r.n_logprobs, -1, max_logprobs},
          IntRange{"n_prompt_logprobs", r.n_prompt_logprobs, -1, max_logprobs},
          IntRange{"max_drafts", r.max_drafts, -1, max_int},
          IntRange{"priority", r.priority, -max_priority, max_priority},
          IntRange{"n", r.n, 1, limits.max_seqs}, IntRange{"best_of", r.best_of, 0, limits.max_seqs},
          IntRange{"beam width", r.beams.width, 0, limits.max_seqs}}) {
        if (i.value >= i.min && i.value <= i.max) continue;
        if (i.max == max_int) return fmt::format("{}: expected {} or more, found {}", i.name, i.min, i.value);
        return fmt::format("{}: expected {} to {}, found {}", i.name, i.min, i.max, i.value);
    }
    if (r.max_tokens >= 0 && r.min_tokens > r.max_tokens) {
        return fmt::format("min_tokens: expected at most max_tokens, {}, found {}", r.max_tokens,
                           r.min_tokens);
    }
    if (r.pooling != Pooling::none && (r.max_tokens != 0 || r.n != 1 || r.n_prompt_logprobs >= 0)) {
        return "pooling: expected no answer and no log-probabilities with it";
    }
    if (r.best_of != 0 && r.best_of < r.n) {
        return fmt::format("best_of: expected at least n, {}, found {}", r.n, r.best_of);
    }
    if (r.beams.width > 0) {
        if (r.n > r.beams.width)
            return fmt::format("n: expected at most the beam width, {}, found {}", r.beams.width, r.n);
        if (r.best_of != 0) return "best_of: expected none beside beam search";
        if (r.grammar) return "grammar: expected none beside beam search";
        if (r.thinking.n_tokens >= 0) return "thinking: expected no limit beside beam search";
        if (r.n_logprobs > 0 || r.n_prompt_logprobs >= 0) return "logprobs: expected none beside beam search";
        const int room = limits.max_beam_tokens(static_cast<int>(r.tokens.size()), r.beams.width);
        if (room < 1 || r.max_tokens > room) {
            return fmt::format(
                "max_tokens: expected at most {} so that {} beams fit (context {}, KV cache {} tokens), "
                "found {}",
                std::max(room, 0), r.beams.width, limits.n_ctx, limits.kv_tokens, r.max_tokens);
        }
        if (!(r.beams.length_penalty >= -10 && r.beams.length_penalty <= 10)) {
            return fmt::format("length_penalty: expected -10 to 10, found {}", r.beams.length_penalty);
        }
    }
    if (r.thinking.n_tokens >= 0 && (r.thinking.close < 0 || r.thinking.close >= limits.vocab_size)) {
        return fmt::format("thinking: expected a closing mark of 0 to {}, found {}", limits.vocab_size - 1,
                           r.thinking.close);
    }
    if (r.grammar && r.grammar->n_tokens() > limits.vocab_size) {
        return fmt::format("grammar: expected one for at most {} tokens, found {}", limits.vocab_size,
                           r.grammar->n_tokens());
    }
    std::string problem = check_pictures(r, limits);
    if (problem.empty()) problem = check_adapters(r, limits);
    if (!problem.empty()) return problem;
    if (r.pictures.empty()) {
        problem = check_ids("tokens", r.tokens, limits.vocab_size);
    } else {
        std::vector<int32_t> words = r.tokens;
        for (const Picture& p : r.pictures) std::fill(words.begin() + p.first, words.begin() + p.end(), 0);
        problem = check_ids("tokens", words, limits.vocab_size);
    }
    if (problem.empty()) problem = check_ids("prediction", r.prediction, limits.vocab_size);
    if (problem.empty()) problem = check_ids("stop_ids", r.stop_ids, limits.vocab_size);
    if (problem.empty()) problem = check_sampling(r.sampling, limits.vocab_size);
    return problem;
}

}  // namespace smelt
