// What is asked of the engine and what it answers: token ids in, token events out.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "engine/model_runner.h"
#include "engine/picture.h"
#include "engine/thinking.h"
#include "grammar/token_grammar.h"
#include "sampling/sampler.h"

namespace smelt {

using RequestId = uint64_t;

struct TokenEvent {
    RequestId request = 0;
    int index = 0;  // which of the request's n answers
    int32_t id = -1;
    float logprob = 0;                   // where n_logprobs >= 0; see Drawn
    std::vector<TokenLogprob> top = {};  // the n_logprobs best
    bool of_prompt = false;              // see Request::n_prompt_logprobs
};

enum class FinishReason {
    stop_id,    // one of the stop ids was drawn; it gets no TokenEvent
    length,     // max_tokens
    context,    // the context, or the whole KV cache, is full
    complete,   // the grammar allows nothing more
    cancelled,  // by cancel() or stop()
    error,      // `error` says what: the device failed, the logits were not numbers
};

const char* to_string(FinishReason reason);

// What kind of error; a device that failed is not to be trusted again, the others concern one request.
enum class Failure { none, numbers, grammar, memory, device };

// What an embedding is made of: final hidden states of the prompt's tokens.
enum class Pooling { none, last, mean };

// The last event of an answer.
struct FinishEvent {
    RequestId request = 0;
    int index = 0;
    FinishReason reason = FinishReason::error;
    int32_t stop_id = -1;  // the one drawn
    std::string error = {};
    Failure failure = Failure::none;

    int n_prompt = 0;                         // tokens
    int n_cached_prompt = 0;                  // of them, those whose K and V were in the cache already
    int n_generated = 0;                      // tokens drawn, with the stop id
    int n_preemptions = 0;                    // how often it made room for others and was computed again
    int n_drafted = 0, n_draft_accepted = 0;  // tokens that were guessed, and those that were right
    bool has_prediction = false;
    double grammar = 0;             // seconds spent on which tokens the grammar allows
    double cumulative_logprob = 0;  // of all tokens drawn, where n_logprobs >= 0; of beams always
    // Seconds: from submit() to the first step, to the first token, to the end.
    double queued = 0, prefill = 0, decode = 0;
    std::vector<float> embedding = {};  // (dim), as Request::pooling says; not normalised
};

using Event = std::variant<TokenEvent, FinishEvent>;

// How much of a prompt is computed: tokens of all of it, of what was cached, and what is done by now.
struct PromptProgress {
    int n_prompt = 0, n_cached = 0, n_done = 0;
    double seconds = 0;  // since it began
};

// Beam search in place of drawing; sampling parameters mean nothing then. The semantics are Hugging Face's:
// a text that ends is kept when it is among the `width` best of a step; its score is the sum of its
// log-probabilities divided by (tokens of the answer with the stop id)^length_penalty.
struct BeamSearch {
    int width = 0;  // 0: no beam search
    float length_penalty = 1;
    enum class Stop {
        when_unbeatable,  // early_stopping false: the likeliest unfinished text, as long as it is, would
                          // score less
        when_full,        // true: `width` texts have ended
        never,            // "never": no unfinished text could score better at any length
    } stop = Stop::when_unbeatable;
};

// A loaded adapter. Whoever holds it keeps its number from being given to another.
struct AdapterHold {
    int number = 0;     // of the runner: 1 or more
    uint64_t hash = 0;  // of its content: prefixes are shared with the same adapter alone
};
struct AdapterUse {
    std::shared_ptr<const AdapterHold> adapter = {};
    float scale = 1;  // times its own
};

struct Request {
    std::vector<int32_t> tokens = {};
    // In the order of their places, which have the ids of name_places() among the tokens.
    std::vector<Picture> pictures = {};
    SamplingParams sampling = {};
    int max_tokens = -1;                 // -1: until the context is full; 0: only fill the cache
    int min_tokens = 0;                  // stop ids are not drawn before
    std::vector<int32_t> stop_ids = {};  // end of text, end of turn
    bool ignore_eos = false;             // stop ids are never drawn
    int priority = 0;                    // higher runs first; see SchedulerOptions::priority_tokens
    // Who asks: clients share steps, seats, blocks and the queue. 0: nobody in particular.
    uint64_t client = 0;
    bool batch = false;   // one of many that nobody waits for one by one; the client's others go first
    int n_logprobs = -1;  // see DrawOptions
    // The same for the tokens of the prompt: each but the first gets a TokenEvent, before those of the answer
    // and for the first answer alone. The whole prompt is computed then, whatever the cache holds.
    int n_prompt_logprobs = -1;
    uint64_t cache_salt = 0;                // prefixes are shared with requests of the same salt alone
    std::vector<AdapterUse> adapters = {};  // LoRA adapters of the model, all added
    int n = 1;                              // answers; the prompt is computed once
    // So many are made, at least n, and the n with the highest log-probability a token are told, when all
    // have ended, the best first. 0: n.
    int best_of = 0;
    BeamSearch beams = {};                       // the n best of `width` texts, at the end
    std::shared_ptr<TokenGrammar> grammar = {};  // every answer is a text of it; null: any
    ThinkingLimit thinking = {};
    int max_drafts = -1;  // tokens that are drafted for a step at most; 0: none; -1: as the engine does
    // How the answer may go, in the client's opinion: what of it comes is drafted from it, also where the
    // engine drafts nothing else.
    std::vector<int32_t> prediction = {};
    // An embedding of the prompt in place of an answer; needs max_tokens 0. For a mean the whole prompt is
    // computed, whatever the cache holds.
    Pooling pooling = Pooling::none;

    // Called on the engine thread while the device works on the next step, so it must not block; it may call
    // submit() and cancel(), which take effect when that step is done: it may bring one more token, and two
    // where steps are launched ahead. One
    // FinishEvent per answer comes last. An answer whose sink throws is dropped.
    std::function<void(Event)> sink = {};
    // The same, when the prompt begins to be computed and after each step that computed a part of it.
    std::function<void(const PromptProgress&)> progress = {};
};

struct RequestLimits {
    int vocab_size = 0;
    int n_ctx = 0;      // tokens of one sequence at most
    int kv_tokens = 0;  // that the whole KV cache holds
    int max_seqs = 0;
    int block_len = 1;
    bool pictures = false;  // the model takes them
    int n_adapters = 0;     // numbers of adapters are at most this

    // Tokens of an answer of beam search: its texts share the prompt's blocks alone.
    int max_beam_tokens(int n_prompt, int width) const;
    int max_tokens() const { return n_ctx < kv_tokens ? n_ctx : kv_tokens; }  // prompt and answer
};

// The request's salt, and its adapters and their scales.
uint64_t prefix_salt(const Request& request);

// What is wrong with a request: field, expected, found. Empty when nothing is.
std::string check_request(const Request& request, const RequestLimits& limits);

}  // namespace smelt
