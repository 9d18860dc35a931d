// Values are in range already: schema.cpp looked at each. What concerns two fields is here.
#include "server/dialects/openai_request.h"

#include "server/dialects/constraints.h"
#include "server/dialects/openai_messages.h"
#include "server/dialects/prediction.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

// -1 is "no limit" for llama.cpp's, LM Studio's and Ollama's clients.
int read_max_tokens(const Json& body, std::initializer_list<const char*> names, int fallback) {
    for (const char* name : names) {
        if (const auto n = get<int>(body, name)) return *n;
    }
    return fallback;
}

constexpr int background = -1, interactive = 0, urgent = 1;

// A number of our priority stays what it is.
int read_priority(const Json& body) {
    const Json* priority = find_member(body, "priority");
    if (priority != nullptr && priority->is_number()) return priority->get<int>();
    if (priority != nullptr && *priority == "background") return background;
    return read_service_tier(body);
}

void read_effort(const Json& body, ChatRequest& to) {
    if (const auto effort = get<std::string>(body, "reasoning_effort")) set_effort(*effort, to);
}

void read_choice_of_model(const Json& body, ChatRequest& to) {
    to.model = get<std::string>(body, "model").value_or("");
    const Json* priority = find_member(body, "priority");
    if (priority != nullptr && priority->is_string()) to.priority = *priority;
}

std::vector<std::string> texts_of(const Json& v) {
    return v.is_string() ? std::vector{v.get<std::string>()} : v.get<std::vector<std::string>>();
}

void read_lengths(const Json& body, std::initializer_list<const char*> names, int default_max_tokens,
                  ChatRequest& to) {
    GenerateOptions& o = to.options;
    o.max_tokens = read_max_tokens(body, names, default_max_tokens);
    o.min_tokens = get<int>(body, "min_tokens").value_or(0);
    if (o.max_tokens >= 0 && o.min_tokens > o.max_tokens) {
        throw bad_request("invalid_value", "min_tokens",
                          "min_tokens: expected at most max_tokens, {}, found {}", o.max_tokens,
                          o.min_tokens);
    }
}

void read_number_of_answers(const Json& body, GenerateOptions& o) {
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
}

void read_stop_ids(const Json& body, GenerateOptions& o) {
    constexpr size_t max_stop_ids = 128;
    o.ignore_eos = get<bool>(body, "ignore_eos").value_or(false);
    const Json* ids = find_member(body, "stop_token_ids");
    if (ids == nullptr || ids->empty()) return;
    if (ids->size() > max_stop_ids)
        wrong_value("stop_token_ids", fmt::format("at most {} ids", max_stop_ids), *ids);
    if (o.ignore_eos) {
        throw bad_request("invalid_value", "stop_token_ids", "stop_token_ids: not together with ignore_eos");
    }
    o.stop_ids = ids->get<std::vector<int32_t>>();
}

// vLLM's two fields. Without them a last message of the assistant's goes on, as in llama-server.
void read_continuation(const Json& body, ChatRequest& to) {
    const auto goes_on = get<bool>(body, "continue_final_message"),
               opens = get<bool>(body, "add_generation_prompt");
    const Message& last = to.messages.back();
    const bool is_open = last.role == Role::assistant && !last.has_calls();
    if (goes_on == true && opens == true) {
        throw bad_request("invalid_value", "continue_final_message",
                          "continue_final_message: expected false where add_generation_prompt is true");
    }
    if (goes_on == true && !is_open) {
        throw bad_request("invalid_value", "continue_final_message",
                          "continue_final_message: expected a last message of the assistant's without calls");
    }
    to.continues = goes_on.value_or(is_open && !opens);
    to.add_generation_prompt = opens.value_or(true) && !to.continues;
}

}  // namespace

int read_service_tier(const Json& body) {
    const std::string tier = get<std::string>(body, "service_tier").value_or("");
    return tier == "flex" ? background : tier == "priority" ? urgent : interactive;
}

void set_effort(const std::string& effort, ChatRequest& to) {
    if (effort == "none") {
        to.thinking = false;
        return;
    }
    if (!to.template_kwargs.is_object()) to.template_kwargs = Json::object();
    to.template_kwargs["reasoning_effort"] = effort;
}

void read_thinking(const Json& body, ChatRequest& to) {
    to.thinking = get<bool>(body, "enable_thinking");
    if (auto kwargs = get<Json>(body, "chat_template_kwargs")) {
        if (const auto thinking = get<bool>(*kwargs, "enable_thinking")) {
            if (to.thinking.value_or(*thinking) != *thinking) {
                throw bad_request("invalid_value", "enable_thinking",
                                  "enable_thinking: chat_template_kwargs says otherwise");
            }
            to.thinking = thinking;
        }
        kwargs->erase("enable_thinking");
        to.template_kwargs = std::move(*kwargs);
    }
}

void read_sampling_table(const Json& body, std::string_view (*spelling)(const SamplingParam&),
                         SamplingChanges& to) {
    for (const SamplingParam& p : sampling_table()) {
        const std::string_view name = spelling(p);
        if (name.empty()) continue;
        const auto it = body.find(name);
        if (it != body.end() && !it->is_null()) to.set(p, it->get<double>());
    }
}

void read_cache_salt(const Json& body, ChatRequest& to) {
    to.cache_salt = get<std::string>(body, "cache_salt").value_or("");
}

void read_sampling(const Json& body, ChatRequest& to) {
    read_sampling_table(
        body, [](const SamplingParam& p) { return p.also; }, to.sampling);
    read_sampling_table(
        body, [](const SamplingParam& p) { return p.name; }, to.sampling);
    GenerateOptions& o = to.options;
    if (const auto seed = get<int64_t>(body, "seed")) o.sampling.seed = static_cast<uint64_t>(*seed);
    if (const auto bias = get<Json>(body, "logit_bias")) {
        for (const auto& [id, value] : bias->items()) {
            o.sampling.logit_bias.emplace_back(static_cast<int32_t>(std::stol(id)), value.get<float>());
        }
    }
    if (const auto stop = get<Json>(body, "stop")) o.stop = texts_of(*stop);
    read_stop_ids(body, o);
    if (const auto breakers = get<Json>(body, "dry_sequence_breakers")) to.dry_breakers = texts_of(*breakers);
    read_number_of_answers(body, o);
    o.max_drafts = get<int>(body, "speculative.n_max").value_or(-1);
    o.priority = read_priority(body);
    to.lora = read_lora(body);
    read_cache_salt(body, to);
}

ChatRequest read_conversation(const Json& body) {
    ChatRequest r;
    read_choice_of_model(body, r);
    r.messages = read_messages("messages", body.at("messages"));
    r.tools = read_tool_rules(body);
    read_thinking(body, r);
    read_effort(body, r);
    read_continuation(body, r);
    return r;
}

ChatRequest read_chat_request(const Json& body) {
    ChatRequest r = read_conversation(body);
    read_sampling(body, r);
    read_lengths(body, {"max_completion_tokens", "max_tokens", "n_predict"}, -1, r);
    r.options.thinking_budget = get<int>(body, "thinking_token_budget").value_or(-1);
    r.bound = read_bound(body);
    if (get<bool>(body, "logprobs").value_or(false)) {
        r.options.n_logprobs = get<int>(body, "top_logprobs").value_or(0);
    } else if (find_member(body, "top_logprobs") != nullptr) {
        throw bad_request("invalid_value", "top_logprobs", "top_logprobs: only with logprobs: true");
    }
    r.options.n_prompt_logprobs = get<int>(body, "prompt_logprobs").value_or(-1);
    r.prediction = read_prediction(body);
    return r;
}

ChatRequest read_question(const Json& body, int default_max_tokens) {
    ChatRequest r;
    read_choice_of_model(body, r);
    read_sampling(body, r);
    read_lengths(body, {"max_tokens", "n_predict"}, default_max_tokens, r);
    read_thinking(body, r);
    read_effort(body, r);
    r.options.thinking_budget = get<int>(body, "thinking_token_budget").value_or(-1);
    r.bound = read_bound(body);
    r.param = "prompt";
    const std::string& prompt = body.at("prompt").get_ref<const std::string&>();
    if (get<bool>(body, "raw").value_or(false)) {
        r.plain = prompt;
        return r;
    }
    const auto system = get<std::string>(body, "system");
    if (system && !system->empty())
        r.messages.push_back({.role = Role::system, .parts = {TextPart{*system}}});
    r.messages.push_back({.role = Role::user, .parts = {TextPart{prompt}}});
    return r;
}

std::vector<PlainPrompt> read_prompts(const Json& v, bool& several) {
    const auto one = [](const Json& p) -> PlainPrompt {
        if (p.is_string()) return p.get<std::string>();
        return p.get<std::vector<int32_t>>();
    };
    several = v.is_array() && !v[0].is_number();
    if (!several) return {one(v)};
    std::vector<PlainPrompt> prompts;
    for (const Json& p : v) prompts.push_back(one(p));
    return prompts;
}

CompletionRequest read_completion_request(const Json& body) {
    constexpr int default_max_tokens = 16;  // OpenAI's
    CompletionRequest c;
    ChatRequest& r = c.request;
    read_choice_of_model(body, r);
    read_sampling(body, r);
    read_lengths(body, {"max_tokens", "n_predict"}, default_max_tokens, r);
    r.bound = read_bound(body);
    r.param = "prompt";
    r.options.n_logprobs = get<int>(body, "logprobs").value_or(-1);
    if (get<bool>(body, "echo").value_or(false)) r.options.n_prompt_logprobs = r.options.n_logprobs;
    if (const auto n = get<int>(body, "prompt_logprobs")) {
        r.options.n_prompt_logprobs = std::max(r.options.n_prompt_logprobs, *n);
    }
    c.prompts = read_prompts(body.at("prompt"), c.several);
    return c;
}

}  // namespace smelt
