// smelt_c.h in terms of smelt.h. No exception leaves a function of it.
#include "api/smelt_c.h"

#include <fmt/format.h>

#include <new>

#include "api/c_options.h"

namespace {

// The C view of tokens, which points into the C++ one.
struct TokenViews {
    std::vector<std::vector<smelt_token_logprob>> tops;
    std::vector<smelt_token> tokens;

    void assign(const std::vector<api::Token>& from) {
        tops.clear();
        tokens.clear();
        for (const api::Token& t : from) {
            std::vector<smelt_token_logprob> top;
            for (const api::TokenLogprob& l : t.top) top.push_back({l.id, l.logprob});
            tops.push_back(std::move(top));
        }
        for (size_t i = 0; i < from.size(); ++i) {
            tokens.push_back({from[i].id, from[i].logprob, tops[i].data(), tops[i].size()});
        }
    }
};

struct PieceView {
    api::Piece piece;
    TokenViews tokens;
    smelt_piece view = {};

    const smelt_piece* assign(api::Piece from) {
        piece = std::move(from);
        tokens.assign(piece.tokens);
        view = {piece.text.c_str(),    piece.text.size(),    piece.thinking.c_str(),
                piece.thinking.size(), tokens.tokens.data(), tokens.tokens.size()};
        return &view;
    }
};

}  // namespace

struct smelt_model {
    api::Model model;
};
struct smelt_prompt {
    api::Prompt prompt;
};
struct smelt_generation {
    api::Generation generation;
    PieceView piece = {};
};
struct smelt_answer {
    api::Answer answer;
    TokenViews tokens = {};
};

namespace {

using namespace smelt::c_options;

std::string& last_error() {
    thread_local std::string text;
    return text;
}

smelt_status fail(smelt_status status, const char* text) noexcept {
    try {
        last_error() = text;
    } catch (...) {
        last_error().clear();  // no memory for the text; the code says what happened
    }
    return status;
}

template <class F>
smelt_status guarded(F f) noexcept {
    try {
        f();
        return SMELT_OK;
    } catch (const api::Error& e) {
        return fail(static_cast<smelt_status>(e.code()), e.what());
    } catch (const std::bad_alloc&) {
        return fail(SMELT_OUT_OF_MEMORY, "too little memory");
    } catch (const std::exception& e) {
        return fail(SMELT_INTERNAL, e.what());
    } catch (...) {
        return fail(SMELT_INTERNAL, "an exception of an unknown kind");
    }
}

api::GenerateOptions generate_options(const smelt_generate_options* given) {
    const smelt_generate_options o = read(given, "generate options", generate_defaults);
    api::GenerateOptions g;
    g.max_tokens = o.max_tokens;
    g.temperature = unless_nan(o.temperature);
    if (o.top_k != -1) g.top_k = o.top_k;
    g.top_p = unless_nan(o.top_p);
    g.min_p = unless_nan(o.min_p);
    g.repetition_penalty = unless_nan(o.repetition_penalty);
    g.presence_penalty = unless_nan(o.presence_penalty);
    g.frequency_penalty = unless_nan(o.frequency_penalty);
    if (flag("has_seed", o.has_seed)) g.seed = o.seed;
    need(o.n_stop == 0 || o.stop != nullptr, "stop");
    for (size_t i = 0; i < o.n_stop; ++i) g.stop.emplace_back(&need(o.stop[i], "stop"));
    g.json_schema = text_or(o.json_schema, "");
    g.regex = text_or(o.regex, "");
    g.gbnf = text_or(o.gbnf, "");
    g.n_logprobs = o.n_logprobs;
    g.thinking_budget = o.thinking_budget;
    g.priority = o.priority;
    return g;
}

smelt_answer* make_answer(api::Answer from) {
    auto answer = std::make_unique<smelt_answer>(smelt_answer{std::move(from)});
    answer->tokens.assign(answer->answer.tokens);
    return answer.release();
}

const char* text_of(const std::string* text, size_t* length) {
    if (length != nullptr) *length = text == nullptr ? 0 : text->size();
    return text == nullptr ? "" : text->c_str();
}

}  // namespace

const char* smelt_version(void) {
    static const std::string text = api::version();
    return text.c_str();
}

const char* smelt_last_error(void) {
    return last_error().c_str();
}

smelt_status smelt_set_log(smelt_on_message on_message, void* user) {
    return guarded([&] {
        if (on_message == nullptr) return api::set_log({});
        api::set_log([on_message, user](api::LogLevel level, const std::string& text) {
            on_message(static_cast<smelt_log_level>(level), text.c_str(), user);
        });
    });
}

void smelt_model_options_init_sized(smelt_model_options* options, size_t size) {
    init(options, size, model_defaults);
}

smelt_status smelt_model_open(const char* path, const smelt_model_options* options, smelt_model** model) {
    return guarded([&] {
        need(path, "path");
        need(model, "model");
        const smelt_model_options o = read(options, "model options", model_defaults);
        api::ModelOptions m;
        m.device = text_or(o.device, "auto");
        m.kv_format = text_or(o.kv_format, "f16");
        m.rope_scaling = text_or(o.rope_scaling, "");
        m.kv_tokens = o.kv_tokens;
        m.n_ctx = o.n_ctx;
        m.n_threads = o.n_threads;
        m.tensor_parallel = o.tensor_parallel;
        m.max_sequences = o.max_sequences;
        m.max_queue = o.max_queue;
        *model = new smelt_model{api::Model::open(path, m)};
    });
}

void smelt_model_close(smelt_model* model) {
    delete model;
}

int32_t smelt_model_n_ctx(const smelt_model* model) {
    int32_t value = -1;
    guarded([&] { value = need(model, "model").model.info().n_ctx; });
    return value;
}

int32_t smelt_model_vocab_size(const smelt_model* model) {
    int32_t value = -1;
    guarded([&] { value = need(model, "model").model.info().vocab_size; });
    return value;
}

int32_t smelt_model_dim(const smelt_model* model) {
    int32_t value = -1;
    guarded([&] { value = need(model, "model").model.info().dim; });
    return value;
}

int32_t smelt_model_has_chat_template(const smelt_model* model) {
    bool has = false;
    guarded([&] { has = need(model, "model").model.info().has_chat_template; });
    return has ? 1 : 0;
}

int32_t smelt_model_takes_pictures(const smelt_model* model) {
    bool takes = false;
    guarded([&] { takes = need(model, "model").model.info().takes_pictures; });
    return takes ? 1 : 0;
}

void smelt_chat_options_init_sized(smelt_chat_options* options, size_t size) {
    init(options, size, chat_defaults);
}

smelt_status smelt_prompt_chat(const smelt_model* model, const smelt_message* messages, size_t n_messages,
                               const smelt_chat_options* options, smelt_prompt** prompt) {
    return guarded([&] {
        need(prompt, "prompt");
        need(n_messages == 0 || messages != nullptr, "messages");
        const smelt_chat_options o = read(options, "chat options", chat_defaults);
        std::vector<api::Message> said(n_messages);
        for (size_t i = 0; i < n_messages; ++i) {
            said[i] = {&need(messages[i].role, "role"), &need(messages[i].content, "content")};
        }
        need(o.n_pictures == 0 || o.pictures != nullptr, "pictures");
        for (size_t i = 0; i < o.n_pictures; ++i) {
            const smelt_picture& p = o.pictures[i];
            need(p.bytes != nullptr, "pictures: bytes");
            if (p.message >= n_messages) {
                throw api::Error(api::ErrorCode::invalid_argument,
                                 fmt::format("pictures[{}]: expected a message below {}, found {}", i,
                                             n_messages, p.message));
            }
            said[p.message].pictures.emplace_back(static_cast<const char*>(p.bytes), p.length);
        }
        api::ChatOptions c;
        if (o.thinking != SMELT_THINKING_AS_TEMPLATE) c.thinking = flag("thinking", o.thinking);
        c.add_generation_prompt = flag("add_generation_prompt", o.add_generation_prompt);
        c.template_variables = text_or(o.template_variables, "");
        *prompt = new smelt_prompt{need(model, "model").model.chat_prompt(said, c)};
    });
}

smelt_status smelt_prompt_text(const smelt_model* model, const char* text, size_t length,
                               smelt_prompt** prompt) {
    return guarded([&] {
        need(prompt, "prompt");
        *prompt = new smelt_prompt{need(model, "model").model.text_prompt({&need(text, "text"), length})};
    });
}

smelt_status smelt_prompt_tokens(const int32_t* tokens, size_t n_tokens, smelt_prompt** prompt) {
    return guarded([&] {
        need(prompt, "prompt");
        need(n_tokens == 0 || tokens != nullptr, "tokens");
        api::Prompt p;
        p.tokens.assign(tokens, tokens + n_tokens);
        *prompt = new smelt_prompt{std::move(p)};
    });
}

const char* smelt_prompt_get_text(const smelt_prompt* prompt, size_t* length) {
    return text_of(prompt == nullptr ? nullptr : &prompt->prompt.text, length);
}

const int32_t* smelt_prompt_get_tokens(const smelt_prompt* prompt, size_t* n_tokens) {
    if (n_tokens != nullptr) *n_tokens = prompt == nullptr ? 0 : prompt->prompt.tokens.size();
    return prompt == nullptr ? nullptr : prompt->prompt.tokens.data();
}

void smelt_prompt_free(smelt_prompt* prompt) {
    delete prompt;
}

void smelt_generate_options_init_sized(smelt_generate_options* options, size_t size) {
    init(options, size, generate_defaults);
}

smelt_status smelt_generate(const smelt_model* model, const smelt_prompt* prompt,
                            const smelt_generate_options* options, smelt_on_piece on_piece, void* user,
                            smelt_answer** answer) {
    return guarded([&] {
        api::OnPiece callback;
        PieceView view;
        if (on_piece != nullptr) {
            callback = [&](const api::Piece& piece) { return on_piece(view.assign(piece), user) != 0; };
        }
        api::Answer a =
            need(model, "model")
                .model.generate(need(prompt, "prompt").prompt, generate_options(options), callback);
        if (answer != nullptr) *answer = make_answer(std::move(a));
    });
}

smelt_status smelt_generate_all(const smelt_model* model, const smelt_prompt* const* prompts,
                                size_t n_prompts, const smelt_generate_options* options,
                                smelt_answer** answers) {
    return guarded([&] {
        need(n_prompts == 0 || (prompts != nullptr && answers != nullptr), "prompts and answers");
        std::vector<api::Prompt> all;
        for (size_t i = 0; i < n_prompts; ++i) all.push_back(need(prompts[i], "prompts").prompt);
        std::vector<std::unique_ptr<smelt_answer>> made;
        for (api::Answer& a : need(model, "model").model.generate_all(all, generate_options(options))) {
            made.emplace_back(make_answer(std::move(a)));
        }
        for (size_t i = 0; i < n_prompts; ++i) answers[i] = made[i].release();
    });
}

smelt_status smelt_generation_start(const smelt_model* model, const smelt_prompt* prompt,
                                    const smelt_generate_options* options, smelt_generation** generation) {
    return guarded([&] {
        need(generation, "generation");
        *generation = new smelt_generation{
            need(model, "model").model.start(need(prompt, "prompt").prompt, generate_options(options))};
    });
}

smelt_status smelt_generation_next(smelt_generation* generation, const smelt_piece** piece) {
    return guarded([&] {
        need(generation, "generation");
        need(piece, "piece");
        auto next = generation->generation.next();
        *piece = next ? generation->piece.assign(std::move(*next)) : nullptr;
    });
}

void smelt_generation_cancel(smelt_generation* generation) {
    guarded([&] {
        need(generation, "generation");
        generation->generation.cancel();
    });
}

smelt_status smelt_generation_finish(smelt_generation* generation, smelt_answer** answer) {
    return guarded([&] {
        need(generation, "generation");
        need(answer, "answer");
        *answer = make_answer(generation->generation.finish());
    });
}

void smelt_generation_free(smelt_generation* generation) {
    delete generation;
}

const char* smelt_answer_text(const smelt_answer* answer, size_t* length) {
    return text_of(answer == nullptr ? nullptr : &answer->answer.text, length);
}

const char* smelt_answer_thinking(const smelt_answer* answer, size_t* length) {
    return text_of(answer == nullptr ? nullptr : &answer->answer.thinking, length);
}

smelt_finish_reason smelt_answer_finish_reason(const smelt_answer* answer) {
    return answer == nullptr ? SMELT_FINISH_CANCELLED
                             : static_cast<smelt_finish_reason>(answer->answer.finish);
}

const smelt_token* smelt_answer_tokens(const smelt_answer* answer, size_t* n_tokens) {
    if (n_tokens != nullptr) *n_tokens = answer == nullptr ? 0 : answer->tokens.tokens.size();
    return answer == nullptr ? nullptr : answer->tokens.tokens.data();
}

smelt_status smelt_answer_usage(const smelt_answer* answer, smelt_usage* usage) {
    return guarded([&] {
        const api::Answer& a = need(answer, "answer").answer;
        const smelt_usage known = read(&need(usage, "usage"), "usage", smelt_usage{});
        const smelt_usage values = {known.size, a.queued,   a.prefill,    a.decode,
                                    a.n_prompt, a.n_cached, a.n_generated};
        std::memcpy(usage, &values, known.size);
    });
}

void smelt_answer_free(smelt_answer* answer) {
    delete answer;
}

void smelt_embed_options_init_sized(smelt_embed_options* options, size_t size) {
    init(options, size, embed_defaults);
}

smelt_status smelt_embed(const smelt_model* model, const char* const* texts, size_t n_texts,
                         const smelt_embed_options* options, float* vectors, size_t n_vectors) {
    return guarded([&] {
        need(n_texts == 0 || (texts != nullptr && vectors != nullptr), "texts and vectors");
        const smelt_embed_options o = read(options, "embed options", embed_defaults);
        api::EmbedOptions e;
        if (o.pooling < SMELT_POOLING_AUTOMATIC || o.pooling > SMELT_POOLING_MEAN) {
            throw api::Error(api::ErrorCode::invalid_argument,
                             "pooling: expected a smelt_pooling, found " + std::to_string(o.pooling));
        }
        e.pooling = static_cast<api::Pooling>(o.pooling);
        e.dimensions = o.dimensions;
        e.normalise = flag("normalise", o.normalise);
        std::vector<std::string> all;
        for (size_t i = 0; i < n_texts; ++i) all.emplace_back(&need(texts[i], "texts"));
        const api::Model& m = need(model, "model").model;
        const auto dim = static_cast<size_t>(o.dimensions > 0 ? o.dimensions : m.info().dim);
        if (n_vectors != n_texts * dim) {
            throw api::Error(api::ErrorCode::invalid_argument,
                             "n_vectors: expected " + std::to_string(n_texts) + " * " + std::to_string(dim) +
                                 ", found " + std::to_string(n_vectors));
        }
        for (const std::vector<float>& v : m.embed_all(all, e))
            vectors = std::copy(v.begin(), v.end(), vectors);
    });
}

smelt_status smelt_tokenize(const smelt_model* model, const char* text, size_t length, int add_special,
                            int parse_special, int32_t* tokens, size_t capacity, size_t* n_tokens) {
    return guarded([&] {
        need(n_tokens, "n_tokens");
        need(capacity == 0 || tokens != nullptr, "tokens");
        api::TokenizeOptions t;
        t.add_special = flag("add_special", add_special);
        t.parse_special = flag("parse_special", parse_special);
        const auto ids = need(model, "model").model.tokenize({&need(text, "text"), length}, t);
        *n_tokens = ids.size();
        std::copy_n(ids.begin(), std::min(capacity, ids.size()), tokens);
    });
}

smelt_status smelt_detokenize(const smelt_model* model, const int32_t* tokens, size_t n_tokens,
                              int skip_special, char* text, size_t capacity, size_t* length) {
    return guarded([&] {
        need(length, "length");
        need(n_tokens == 0 || tokens != nullptr, "tokens");
        need(capacity == 0 || text != nullptr, "text");
        api::DetokenizeOptions d;
        d.skip_special = flag("skip_special", skip_special);
        const std::string all =
            need(model, "model").model.detokenize(std::vector<int32_t>(tokens, tokens + n_tokens), d);
        *length = all.size();
        if (capacity == 0) return;
        const size_t n = std::min(capacity - 1, all.size());
        std::copy_n(all.begin(), n, text);
        text[n] = '\0';
    });
}
