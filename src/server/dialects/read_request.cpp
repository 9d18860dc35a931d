// Values are in range already: schema.cpp looked at each. What concerns two fields, or the model, is here.
#include "server/dialects/read_request.h"

#include <array>
#include <bit>
#include <cstring>
#include <random>

#include "base/atomic_file.h"
#include "base/mapped_file.h"
#include "server/routes.h"

namespace smelt {

namespace {

using Secret = std::array<uint64_t, 2>;

Secret draw_secret() {
    std::random_device device;
    const auto word = [&] { return (uint64_t{device()} << 32) | device(); };
    return {word(), word()};
}

Secret& salt_secret() {
    static Secret secret = draw_secret();
    return secret;
}

// SipHash-2-4 (Aumasson and Bernstein), with a key that nobody knows: nobody can make two texts meet.
uint64_t keyed_hash(std::string_view text) {
    const Secret secret = salt_secret();
    std::array<uint64_t, 4> v = {secret[0] ^ 0x736f6d6570736575u, secret[1] ^ 0x646f72616e646f6du,
                                 secret[0] ^ 0x6c7967656e657261u, secret[1] ^ 0x7465646279746573u};
    const auto rounds = [&](int n) {
        for (; n > 0; --n) {
            v[0] += v[1], v[1] = std::rotl(v[1], 13) ^ v[0], v[0] = std::rotl(v[0], 32);
            v[2] += v[3], v[3] = std::rotl(v[3], 16) ^ v[2];
            v[0] += v[3], v[3] = std::rotl(v[3], 21) ^ v[0];
            v[2] += v[1], v[1] = std::rotl(v[1], 17) ^ v[2], v[2] = std::rotl(v[2], 32);
        }
    };
    uint64_t word = 0;
    for (size_t i = 0; i < text.size(); ++i) {
        word |= uint64_t{static_cast<unsigned char>(text[i])} << (8 * (i % 8));
        if (i % 8 < 7) continue;
        v[3] ^= word;
        rounds(2);
        v[0] ^= std::exchange(word, 0);
    }
    word |= uint64_t{text.size()} << 56;
    v[3] ^= word;
    rounds(2);
    v[0] ^= word;
    v[2] ^= 0xff;
    rounds(4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

void read_dry(const Json& body, const ChatModel& model, SamplingParams& s) {
    s.dry_multiplier = get<float>(body, "dry_multiplier").value_or(s.dry_multiplier);
    if (s.dry_multiplier == 0) return;
    s.dry_base = get<float>(body, "dry_base").value_or(s.dry_base);
    s.dry_allowed_length = get<int>(body, "dry_allowed_length").value_or(s.dry_allowed_length);
    s.dry_last_n = get<int>(body, "dry_penalty_last_n").value_or(s.dry_last_n);
    std::vector<std::string> breakers = {"\n", ":", "\"", "*"};  // llama.cpp's
    if (const auto given = get<Json>(body, "dry_sequence_breakers")) {
        breakers = given->is_string() ? std::vector{given->get<std::string>()}
                                      : given->get<std::vector<std::string>>();
    }
    s.dry_breakers = model.tokens_with(breakers);
}

// Words of OpenAI's service_tier and of our priority; a number stays what it is.
int read_priority(const Json& body) {
    constexpr int background = -1, interactive = 0, urgent = 1;
    const auto priority = body.find("priority");
    if (priority != body.end() && priority->is_number()) return priority->get<int>();
    if (priority != body.end() && *priority == "background") return background;
    const std::string tier = get<std::string>(body, "service_tier").value_or("");
    return tier == "flex" ? background : tier == "priority" ? urgent : interactive;
}

}  // namespace

ModelChoice read_choice(const Json& body, const std::string& key, int max_tokens) {
    ModelChoice choice{
        .name = get<std::string>(body, "model").value_or(""), .max_tokens = max_tokens, .key = key};
    const auto priority = body.find("priority");
    if (priority != body.end() && priority->is_string()) choice.priority = priority->get<std::string>();
    return choice;
}

void keep_salt_secret(const std::filesystem::path& file) {
    if (!std::filesystem::exists(file)) {
        AtomicFile out(file, AtomicFile::Readers::nobody);
        out.write(std::as_bytes(std::span(salt_secret())));
        out.commit();
    }
    const MappedFile kept(file);
    if (kept.bytes().size() != sizeof(Secret)) {
        throw Error("{}: expected {} bytes, found {}; without the file, a new one is made", file.string(),
                    sizeof(Secret), kept.bytes().size());
    }
    std::memcpy(salt_secret().data(), kept.bytes().data(), sizeof(Secret));
}

uint64_t read_cache_salt(const Json& body, const std::string& key) {
    const std::string salt = get<std::string>(body, "cache_salt").value_or("");
    if (key.empty() && salt.empty()) return 0;
    return keyed_hash(fmt::format("{}:{}{}", key.size(), key, salt));
}

int read_max_tokens(const Json& body) {
    for (const char* name : {"max_completion_tokens", "max_tokens"}) {
        if (const auto n = get<int>(body, name)) return *n;
    }
    return -1;
}

GenerateOptions read_options(const Json& body, const ChatModel& model) {
    GenerateOptions o{.sampling = model.default_sampling(), .max_tokens = read_max_tokens(body)};
    SamplingParams& s = o.sampling;
    s.temperature = get<float>(body, "temperature").value_or(s.temperature);
    s.top_p = get<float>(body, "top_p").value_or(s.top_p);
    s.top_k = std::max(0, get<int>(body, "top_k").value_or(s.top_k));
    s.min_p = get<float>(body, "min_p").value_or(s.min_p);
    s.presence_penalty = get<float>(body, "presence_penalty").value_or(0);
    s.frequency_penalty = get<float>(body, "frequency_penalty").value_or(0);
    s.repetition_penalty = get<float>(body, "repetition_penalty").value_or(s.repetition_penalty);
    if (const auto seed = get<int64_t>(body, "seed")) s.seed = static_cast<uint64_t>(*seed);
    if (const auto bias = get<Json>(body, "logit_bias")) {
        for (const auto& [id, value] : bias->items()) {
            s.logit_bias.emplace_back(static_cast<int32_t>(std::stol(id)), value.get<float>());
        }
    }
    if (const auto stop = get<Json>(body, "stop")) {
        o.stop =
            stop->is_string() ? std::vector{stop->get<std::string>()} : stop->get<std::vector<std::string>>();
    }
    s.typical_p = get<float>(body, "typical_p").value_or(s.typical_p);
    s.top_n_sigma = std::max(0.0f, get<float>(body, "top_n_sigma").value_or(s.top_n_sigma));
    s.xtc_probability = get<float>(body, "xtc_probability").value_or(s.xtc_probability);
    s.xtc_threshold = get<float>(body, "xtc_threshold").value_or(s.xtc_threshold);
    read_dry(body, model, s);
    o.n = get<int>(body, "n").value_or(1);
    o.best_of = get<int>(body, "best_of").value_or(0);
    if (o.best_of > 0 && o.best_of < o.n) {
        throw bad_request("invalid_value", "best_of", "best_of: expected at least n, {}, found {}", o.n,
                          o.best_of);
    }
    if (get<bool>(body, "use_beam_search").value_or(false)) {
        o.beams = {.width = std::max(o.n, std::exchange(o.best_of, 0)),
                   .length_penalty = get<float>(body, "length_penalty").value_or(1)};
    }
    o.ignore_eos = get<bool>(body, "ignore_eos").value_or(false);
    o.min_tokens = get<int>(body, "min_tokens").value_or(0);
    o.thinking_budget = get<int>(body, "thinking_token_budget").value_or(-1);
    if (o.max_tokens >= 0 && o.min_tokens > o.max_tokens) {
        throw bad_request("invalid_value", "min_tokens",
                          "min_tokens: expected at most max_tokens, {}, found {}", o.max_tokens,
                          o.min_tokens);
    }
    o.priority = read_priority(body);
    return o;
}

Prompt make_chat_prompt(const ChatModel& model, const Json& messages, const Json& body,
                        bool add_generation_prompt) {
    if (!model.has_template()) {
        throw bad_request("not_supported", "messages",
                          "the model has no chat template; /v1/completions works");
    }
    PromptOptions options{.add_generation_prompt = add_generation_prompt};
    // A model that shall not call is not told of what it could.
    if (const ToolRules rules = read_tool_rules(body); rules.may_call) {
        options.tools = template_tools(rules.tools);
    }
    if (auto kwargs = get<Json>(body, "chat_template_kwargs")) {
        options.thinking = get<bool>(*kwargs, "enable_thinking");
        kwargs->erase("enable_thinking");
        options.template_kwargs = std::move(*kwargs);
    }
    if (const auto effort = get<std::string>(body, "reasoning_effort")) {
        if (*effort == "none") {
            options.thinking = false;
        } else {
            if (!options.template_kwargs.is_object()) options.template_kwargs = Json::object();
            options.template_kwargs["reasoning_effort"] = *effort;
        }
    }
    try {
        return model.make_prompt(template_messages(messages), options);
    } catch (const TemplateError& e) {
        throw bad_request("template_error", "messages", "the model's chat template refused: {}", e.message());
    }
}

Prompt make_plain_prompt(const ChatModel& model, const Json& prompt, const std::string& param) {
    Prompt p;
    const Tokenizer& tokenizer = model.tokenizer();
    if (prompt.is_string()) {
        p = model.make_text_prompt(prompt.get<std::string>());
    } else {
        p.ids = prompt.get<std::vector<int32_t>>();
        for (size_t i = 0; i < p.ids.size(); ++i) {
            if (p.ids[i] >= tokenizer.n_tokens()) {
                throw bad_request("invalid_value", param, "{}[{}]: expected token ids below {}, found {}",
                                  param, i, tokenizer.n_tokens(), p.ids[i]);
            }
        }
        p.text = tokenizer.decode(p.ids);
    }
    if (p.ids.empty() && tokenizer.bos() >= 0) p.ids.push_back(tokenizer.bos());
    if (p.ids.empty()) throw bad_request("invalid_value", param, "{}: expected at least one token", param);
    return p;
}

void check_fits(const ChatModel& model, const Prompt& prompt, const std::string& param) {
    const int limit = const_cast<ChatModel&>(model).engine().limits().max_tokens();
    if (prompt.ids.size() < static_cast<size_t>(limit)) return;
    throw bad_request(
        "context_length_exceeded", param,
        "the prompt has {} tokens; the context of this model is {} tokens for prompt and answer",
        prompt.ids.size(), limit);
}

JobSpec make_chat_job(ServerContext& server, const Json& body, const std::string& key,
                      const SchemaNames& names) {
    const ModelUse model = server.models.choose(read_choice(body, key, read_max_tokens(body)));
    JobSpec job{.model = model,
                .prompt = make_chat_prompt(model.chat(), body.at("messages"), body),
                .options = read_options(body, model.chat())};
    job.options.cache_salt = read_cache_salt(body, server.shared_prefix_cache ? "" : key);
    const ToolRules rules = read_tool_rules(body);
    job.options.tools = rules.tools;
    job.options.single_call = !rules.parallel;
    job.drop_calls = !rules.may_call;
    check_fits(model.chat(), job.prompt, "messages");
    job.options.grammar = compile_chat_constraint(model.chat(), job.prompt, body, rules, names);
    return job;
}

JobSpec make_question_job(ServerContext& server, const Json& body, const std::string& key,
                          int default_max_tokens) {
    const int given = read_max_tokens(body);
    const int max_tokens = given < 0 ? default_max_tokens : given;
    const ModelUse model = server.models.choose(read_choice(body, key, max_tokens));
    const ChatModel& chat = model.chat();
    const bool raw = get<bool>(body, "raw").value_or(false) || !chat.has_template();
    JobSpec job{.model = model, .prompt = {}, .options = read_options(body, chat)};
    if (raw) {
        job.prompt = make_plain_prompt(chat, body.at("prompt"), "prompt");
    } else {
        Json messages = Json::array();
        if (const auto system = get<std::string>(body, "system")) {
            messages.push_back({{"role", "system"}, {"content", *system}});
        }
        messages.push_back({{"role", "user"}, {"content", body.at("prompt")}});
        job.prompt = make_chat_prompt(chat, messages, body);
    }
    job.options.max_tokens = max_tokens;
    job.options.split_thinking = !raw;
    job.options.cache_salt = read_cache_salt(body, server.shared_prefix_cache ? "" : key);
    check_fits(chat, job.prompt, "prompt");
    job.options.grammar =
        raw ? compile_text_constraint(chat, body) : compile_chat_constraint(chat, job.prompt, body, {}, {});
    return job;
}

Json ToolCallText::object() const {
    try {
        Json value = parse_json(arguments, "arguments");
        if (value.is_object()) return value;
    } catch (const Error&) {
    }
    return Json::object();
}

ToolCallText& ToolCallTexts::add(const ToolCallDelta& delta) {
    if (static_cast<size_t>(delta.index) >= calls_.size()) {
        calls_.push_back({.id = random_id("call_"), .name = delta.name});
    }
    ToolCallText& call = calls_[static_cast<size_t>(delta.index)];
    call.arguments += delta.arguments;
    return call;
}

ApiError failure_error(const FinishEvent& finish) {
    switch (finish.failure) {
        case Failure::memory:
            return {.status = 503, .code = "insufficient_memory", .message = finish.error, .retry_after = 1};
        case Failure::device:
            return {.status = 503, .code = "device_lost", .message = "the device failed", .retry_after = 60};
        case Failure::numbers:
        case Failure::none:
            break;
    }
    return {.status = 500, .code = "numeric_error", .message = finish.error};
}

void Usage::add(const FinishEvent& f) {
    if (f.index == 0) {
        n_prompt += f.n_prompt;
        n_cached += f.n_cached_prompt;
    }
    n_answer += f.n_generated;
    queued = std::max(queued, f.queued);
    prefill = std::max(prefill, f.prefill);
    decode = std::max(decode, f.decode);
}

Json Usage::usage_json() const {
    return {{"prompt_tokens", n_prompt},
            {"completion_tokens", n_answer},
            {"total_tokens", n_prompt + n_answer},
            {"prompt_tokens_details", {{"cached_tokens", n_cached}}}};
}

Json Usage::timings_json() const {
    const auto rate = [](int n, double seconds) { return seconds > 0 ? n / seconds : 0; };
    return {{"cache_n", n_cached},
            {"prompt_n", n_prompt - n_cached},
            {"queued_ms", 1e3 * queued},
            {"prompt_ms", 1e3 * prefill},
            {"prompt_per_second", rate(n_prompt - n_cached, prefill)},
            {"predicted_n", n_answer},
            {"predicted_ms", 1e3 * decode},
            // The first token belongs to the prompt's time.
            {"predicted_per_second", rate(n_answer - 1, decode)}};
}

std::string sse(const Json& event) {
    return "data: " + to_string(event) + "\n\n";
}

HttpAnswer sse_head() {
    return {.status = 200,
            .type = "text/event-stream; charset=utf-8",
            .headers = {{"cache-control", "no-cache"}, {"x-accel-buffering", "no"}}};
}

std::string random_id(const char* prefix) {
    thread_local std::mt19937_64 random{std::random_device{}()};
    return fmt::format("{}{:016x}", prefix, random());
}

}  // namespace smelt
