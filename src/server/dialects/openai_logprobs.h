// Log-probabilities of tokens in the three forms that OpenAI's and vLLM's clients read.
#pragma once

#include <span>

#include "base/json.h"
#include "engine/request.h"
#include "text/tokenizer.h"

namespace smelt {

class OpenAiLogprobs {
 public:
    explicit OpenAiLogprobs(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

    // Chat completions: {"content": [{"token", "logprob", "bytes", "top_logprobs"}]}.
    Json of_chat(std::span<const TokenEvent> tokens) const;
    // Completions: parallel arrays. The offsets count characters of the text, as Python's clients slice it;
    // `offset` is where the first token begins, and becomes where the next would.
    Json of_completion(std::span<const TokenEvent> tokens, size_t& offset) const;
    // vLLM's prompt_logprobs: a token id -> {"logprob", "rank", "decoded_token"}, null for the first token.
    Json of_prompt(std::span<const TokenEvent> tokens) const;

 private:
    std::string text_of(int32_t id) const { return std::string(tokenizer_.token_bytes(id)); }
    Json chat_entry(int32_t id, float logprob) const;

    const Tokenizer& tokenizer_;
};

}  // namespace smelt
