// Answers: options of smelt.h become those of the chat room, its text and tokens become pieces.
#include <deque>

#include "api/impl.h"

namespace smelt::v1 {

namespace {

SamplingParams sampling_of(const ChatModel& model, const GenerateOptions& o) {
    SamplingParams s = model.default_sampling();
    s.temperature = o.temperature.value_or(s.temperature);
    s.top_k = o.top_k.value_or(s.top_k);
    s.top_p = o.top_p.value_or(s.top_p);
    s.min_p = o.min_p.value_or(s.min_p);
    s.repetition_penalty = o.repetition_penalty.value_or(s.repetition_penalty);
    s.presence_penalty = o.presence_penalty.value_or(s.presence_penalty);
    s.frequency_penalty = o.frequency_penalty.value_or(s.frequency_penalty);
    s.seed = o.seed;
    return s;
}

struct Form {
    const char* name = nullptr;  // of the option
    std::optional<GrammarSpec> spec = {};
};

Form form_of(const GenerateOptions& o) {
    Form form;
    const auto add = [&](const char* name, const std::string& text, auto make) {
        if (text.empty()) return;
        if (form.spec) refuse("{}: the answer has a form already, from {}", name, form.name);
        check_utf8(name, text);
        form = {name, make(text)};
    };
    add("json_schema", o.json_schema, [](const std::string& t) {
        const Json schema = parse_json(t, "json_schema");
        if (!schema.is_object() && !schema.is_boolean()) {
            refuse("json_schema: expected a JSON object, found {}", to_string(schema));
        }
        return GrammarSpec::json_schema(schema);
    });
    add("regex", o.regex, GrammarSpec::regex);
    add("gbnf", o.gbnf, GrammarSpec::gbnf);
    return form;
}

std::shared_ptr<TokenGrammar> grammar_of(const ChatModel& model, const smelt::Prompt& prompt, bool is_chat,
                                         const GenerateOptions& o) {
    const Form form = form_of(o);
    if (!form.spec) return nullptr;
    const GrammarSpec whole = is_chat ? answer_grammar(model.answer_form(prompt), form.spec, {}) : *form.spec;
    auto compiled = model.compile(whole);
    if (const auto* error = std::get_if<GrammarError>(&compiled)) {
        refuse("{}: {}", form.name, error->message());
    }
    return std::get<std::shared_ptr<TokenGrammar>>(std::move(compiled));
}

smelt::GenerateOptions options_of(const ChatModel& model, const smelt::Prompt& prompt, bool is_chat,
                                  const GenerateOptions& o) {
    for (const std::string& s : o.stop) {
        if (s.empty()) refuse("stop: expected a text, found an empty one");
        check_utf8("stop", s);
    }
    check_range("thinking_budget", o.thinking_budget, -1, std::numeric_limits<int>::max());
    smelt::GenerateOptions options;
    options.sampling = sampling_of(model, o);
    options.max_tokens = o.max_tokens;
    options.stop = o.stop;
    options.split_thinking = is_chat;
    options.priority = o.priority;
    options.n_logprobs = o.n_logprobs;
    options.grammar = grammar_of(model, prompt, is_chat, o);
    options.thinking_budget = o.thinking_budget;
    return options;
}

Token token_of(const TokenEvent& e) {
    Token token{.id = e.id, .logprob = e.logprob};
    for (const smelt::TokenLogprob& t : e.top) token.top.push_back({t.id, t.logprob});
    return token;
}

std::unique_ptr<smelt::Generation> submit(ChatModel& model, const smelt::Prompt& prompt,
                                          const smelt::GenerateOptions& options) {
    const int limit = model.engine().limits().max_tokens();
    if (prompt.ids.size() >= static_cast<size_t>(limit)) {
        refuse("prompt: expected fewer tokens than the context has for prompt and answer, {}, found {}",
               limit, prompt.ids.size());
    }
    return model.generate(prompt, options);
}

}  // namespace

std::optional<Piece> Generation::Impl::next() {
    return translated(ErrorCode::failed, [&]() -> std::optional<Piece> {
        if (complete) return std::nullopt;
        auto delta = generation->next();
        if (!delta) {
            take_finish();
            return std::nullopt;
        }
        Piece piece{.text = std::move(delta->answer), .thinking = std::move(delta->thinking)};
        for (const TokenEvent& e : generation->tokens()) piece.tokens.push_back(token_of(e));
        answer.text += piece.text;
        answer.thinking += piece.thinking;
        answer.tokens.insert(answer.tokens.end(), piece.tokens.begin(), piece.tokens.end());
        return piece;
    });
}

void Generation::Impl::take_finish() {
    const FinishEvent& f = generation->finish();
    const std::string reason = generation->finish_reason();
    answer.finish = reason == "stop"     ? FinishReason::stop
                    : reason == "length" ? FinishReason::length
                                         : FinishReason::cancelled;
    answer.n_prompt = f.n_prompt;
    answer.n_cached = f.n_cached_prompt;
    answer.n_generated = f.n_generated;
    answer.queued = f.queued;
    answer.prefill = f.prefill;
    answer.decode = f.decode;
    complete = true;
}

std::unique_ptr<Generation::Impl> Generation::Impl::start_embedding(const std::shared_ptr<Model::Impl>& model,
                                                                    std::string_view text,
                                                                    const EmbedOptions& options) {
    return translated(ErrorCode::invalid_argument, [&] {
        const smelt::Prompt prompt = model->chat->make_text_prompt(std::string(text));
        if (prompt.ids.empty()) refuse("text: expected at least one token, found none");
        const smelt::Pooling pooling = options.pooling == Pooling::last   ? smelt::Pooling::last
                                       : options.pooling == Pooling::mean ? smelt::Pooling::mean
                                                                          : model->chat->default_pooling();
        auto impl = std::make_unique<Generation::Impl>();
        impl->model = model;
        smelt::GenerateOptions engine;
        engine.max_tokens = 0;
        engine.split_thinking = false;
        engine.pooling = pooling;
        impl->generation = submit(*model->chat, prompt, engine);
        return impl;
    });
}

Generation::Generation(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Generation::Generation(Generation&&) noexcept = default;
Generation& Generation::operator=(Generation&&) noexcept = default;
Generation::~Generation() = default;

std::optional<Piece> Generation::next() {
    return impl_->next();
}

void Generation::cancel() {
    impl_->generation->cancel();
}

Answer Generation::finish() {
    while (impl_->next()) continue;
    return std::move(impl_->answer);
}

Generation Model::start(const Prompt& prompt, const GenerateOptions& options) const {
    return translated(ErrorCode::invalid_argument, [&] {
        ChatModel& chat = *impl_->chat;
        smelt::Prompt p{.text = prompt.text,
                        .ids = prompt.tokens,
                        .starts_thinking = prompt.starts_thinking,
                        .starts_final = prompt.starts_final};
        if (prompt.pictures) p.pictures = chat.find_pictures(prompt.tokens, prompt.pictures->all);
        auto impl = std::make_unique<Generation::Impl>();
        impl->model = impl_;
        impl->generation = submit(chat, p, options_of(chat, p, prompt.is_chat, options));
        return Generation(std::move(impl));
    });
}

Answer Model::generate(const Prompt& prompt, const GenerateOptions& options, const OnPiece& on_piece) const {
    Generation generation = start(prompt, options);
    if (!on_piece) return generation.finish();
    while (const auto piece = generation.next()) {
        if (piece->text.empty() && piece->thinking.empty() && piece->tokens.empty()) continue;
        if (on_piece(*piece)) continue;
        generation.cancel();
        const Answer seen = generation.impl_->answer;
        Answer answer = generation.finish();
        answer.text = seen.text;
        answer.thinking = seen.thinking;
        answer.tokens = seen.tokens;
        answer.finish = FinishReason::cancelled;
        return answer;
    }
    return generation.finish();
}

std::vector<Answer> Model::generate_all(const std::vector<Prompt>& prompts,
                                        const GenerateOptions& options) const {
    std::vector<Answer> answers;
    std::deque<Generation> under_way;
    const auto read_first = [&] {
        answers.push_back(under_way.front().finish());
        under_way.pop_front();
    };
    for (const Prompt& prompt : prompts) {
        under_way.push_back(start_when_free(under_way, read_first, [&] { return start(prompt, options); }));
    }
    while (!under_way.empty()) read_first();
    return answers;
}

}  // namespace smelt::v1
