// Opening a model, prompts, tokens, embeddings: smelt.h in terms of the chat room.
#include <algorithm>
#include <deque>
#include <limits>

#include "api/impl.h"
#include "base/log.h"
#include "chat/picture_prompt.h"
#include "text/unicode.h"

namespace smelt::v1 {

namespace {

constexpr int max_int = std::numeric_limits<int>::max();

void check_options(const ModelOptions& o) {
    check_range("n_threads", o.n_threads, 0, 1024);
    check_range("tensor_parallel", o.tensor_parallel, 1, 32);
    check_range("n_ctx", o.n_ctx, 0, max_int);
    check_range("kv_tokens", o.kv_tokens, 0, max_int);
    check_range("max_sequences", o.max_sequences, 1, 1024);
    check_range("max_queue", o.max_queue, 1, 1'000'000);
}

EngineOptions engine_options(const ModelOptions& o) {
    EngineOptions e;
    e.scheduler.max_seqs = o.max_sequences;
    // A step has room for every answer's next token and for as much of prompts.
    e.scheduler.max_batch_tokens = std::max(e.scheduler.max_batch_tokens, 2 * o.max_sequences);
    e.max_queue = o.max_queue;
    return e;
}

Json read_object(const char* name, const std::string& text) {
    if (text.empty()) return {};
    Json value = parse_json(text, name);
    if (!value.is_object()) refuse("{}: expected a JSON object, found {}", name, to_string(value));
    return value;
}

}  // namespace

void check_range(const char* name, int64_t value, int64_t min, int64_t max) {
    if (value >= min && value <= max) return;
    if (max == max_int) refuse("{}: expected {} or more, found {}", name, min, value);
    refuse("{}: expected {} to {}, found {}", name, min, max, value);
}

void check_utf8(const char* name, std::string_view text) {
    for (const char *p = text.data(), *end = p + text.size(); p < end;) {
        const Utf8Char c = decode_utf8(p, end);
        if (c.value == invalid_char)
            refuse("{}: expected UTF-8, found byte {} broken", name, p - text.data());
        p += c.length;
    }
}

Model::Model(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Model Model::open(const std::string& path, const ModelOptions& options) {
    check_options(options);
    init_log_of_library();
    const KvFormats kv =
        translated(ErrorCode::invalid_argument, [&] { return parse_kv_formats(options.kv_format); });
    return translated(ErrorCode::cannot_open, [&] {
        auto impl = std::make_shared<Impl>();
        impl->chat = ChatModel::open(
            path, {.device = options.device,
                   .backend = {.n_threads = options.n_threads, .tensor_parallel = options.tensor_parallel},
                   .rope_scaling = options.rope_scaling,
                   .n_ctx = options.n_ctx,
                   .kv_tokens = options.kv_tokens,
                   .kv = kv,
                   .engine = engine_options(options)});
        return Model(std::move(impl));
    });
}

ModelInfo Model::info() const {
    const ChatModel& chat = *impl_->chat;
    const ModelConfig& config = chat.model().config();
    return {.architecture = config.architecture,
            .device = chat.backend().description(),
            .n_ctx = chat.n_ctx(),
            .vocab_size = static_cast<int>(config.vocab_size),
            .dim = static_cast<int>(config.dim),
            .has_chat_template = chat.has_template(),
            .takes_pictures = chat.takes_pictures()};
}

Prompt Model::chat_prompt(const std::vector<Message>& messages, const ChatOptions& options) const {
    if (messages.empty()) refuse("messages: expected 1 or more, found none");
    return translated(ErrorCode::invalid_argument, [&] {
        Json said = Json::array();
        smelt::PromptPictures pictures(*impl_->chat);
        for (size_t i = 0; i < messages.size(); ++i) {
            const Message& m = messages[i];
            check_utf8("messages: role", m.role);
            check_utf8("messages: content", m.content);
            Json content = m.content;
            if (!m.pictures.empty()) {
                content = Json(m.pictures.size(), {{"type", "image"}});
                content.push_back({{"type", "text"}, {"text", m.content}});
            }
            for (size_t k = 0; k < m.pictures.size(); ++k)
                pictures.add(m.pictures[k], fmt::format("messages[{}]: pictures[{}]", i, k));
            said.push_back({{"role", m.role}, {"content", std::move(content)}});
        }
        const auto shown = std::make_shared<const Pictures>(pictures.take());
        const smelt::Prompt p = impl_->chat->make_prompt(
            said, {.thinking = options.thinking,
                   .template_kwargs = read_object("template_variables", options.template_variables),
                   .add_generation_prompt = options.add_generation_prompt,
                   .pictures = shown->all});
        return Prompt{.tokens = p.ids,
                      .text = p.text,
                      .is_chat = true,
                      .starts_thinking = p.starts_thinking,
                      .starts_final = p.starts_final,
                      .pictures = shown->all.empty() ? nullptr : shown};
    });
}

Prompt Model::text_prompt(std::string_view text) const {
    return translated(ErrorCode::invalid_argument, [&] {
        smelt::Prompt p = impl_->chat->make_text_prompt(std::string(text));
        if (p.ids.empty()) refuse("text: expected at least one token, found none");
        return Prompt{.tokens = std::move(p.ids), .text = std::move(p.text)};
    });
}

std::vector<float> Model::embed(std::string_view text, const EmbedOptions& options) const {
    return embed_all({std::string(text)}, options).front();
}

std::vector<std::vector<float>> Model::embed_all(const std::vector<std::string>& texts,
                                                 const EmbedOptions& options) const {
    const int dim = info().dim;
    check_range("dimensions", options.dimensions, 0, dim);
    const auto n_kept = static_cast<size_t>(options.dimensions == 0 ? dim : options.dimensions);
    std::vector<std::vector<float>> vectors;
    std::deque<std::unique_ptr<Generation::Impl>> under_way;
    const auto read_first = [&] {
        while (under_way.front()->next()) continue;
        std::vector<float> v = under_way.front()->generation->finish().embedding;
        v.resize(n_kept);
        vectors.push_back(options.normalise ? normalised(std::move(v), n_kept) : std::move(v));
        under_way.pop_front();
    };
    for (const std::string& text : texts) {
        under_way.push_back(start_when_free(
            under_way, read_first, [&] { return Generation::Impl::start_embedding(impl_, text, options); }));
    }
    while (!under_way.empty()) read_first();
    return vectors;
}

std::vector<int32_t> Model::tokenize(std::string_view text, const TokenizeOptions& options) const {
    return translated(ErrorCode::invalid_argument, [&] {
        return impl_->chat->tokenizer().encode(
            text, {.add_special = options.add_special, .parse_special = options.parse_special});
    });
}

std::string Model::detokenize(const std::vector<int32_t>& tokens, const DetokenizeOptions& options) const {
    const int vocab_size = info().vocab_size;
    for (const int32_t id : tokens) check_range("tokens", id, 0, vocab_size - 1);
    return translated(ErrorCode::internal,
                      [&] { return impl_->chat->tokenizer().decode(tokens, options.skip_special); });
}

void set_log(std::function<void(LogLevel, const std::string&)> on_message) {
    if (!on_message) return send_log({});
    send_log([on_message = std::move(on_message)](spdlog::level::level_enum level, std::string_view text) {
        const LogLevel to = level <= spdlog::level::debug  ? LogLevel::debug
                            : level == spdlog::level::info ? LogLevel::info
                            : level == spdlog::level::warn ? LogLevel::warning
                                                           : LogLevel::error;
        on_message(to, std::string(text));
    });
}

std::string version() {
    return SMELT_VERSION;
}

}  // namespace smelt::v1
