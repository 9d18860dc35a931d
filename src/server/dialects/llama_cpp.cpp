// llama.cpp's own interface: POST /completion and /infill, whole or as its events, in its words.
#include "base/number.h"
#include "server/dialects/answer.h"
#include "server/dialects/llama_cpp_request.h"
#include "server/dialects/make_job.h"

namespace smelt {

namespace {

// What the words of an answer need of its request.
struct NativeWords {
    NativeRequest asked;
    std::vector<std::string> prompts;  // as texts
    SamplingParams sampling;           // after the model's own
    std::vector<std::string> stop;
};

// {"a": {"b": 1}} and "a/b": {"a/b": 1}
Json chosen_fields(const Json& body, const std::vector<std::string>& fields) {
    Json chosen = Json::object();
    for (const std::string& path : fields) {
        const Json* at = &body;
        for (size_t start = 0; at != nullptr && start <= path.size();) {
            const size_t end = std::min(path.find('/', start), path.size());
            const auto found = at->is_object() ? at->find(path.substr(start, end - start)) : at->end();
            at = at->is_object() && found != at->end() ? &*found : nullptr;
            start = end + 1;
        }
        if (at != nullptr) chosen[path] = *at;
    }
    return chosen;
}

// Sampling as its clients write it: a float without the digits that it does not have.
Json sampling_json(const SamplingParams& s) {
    Json all = Json::object();
    for (const SamplingParam& p : sampling_table()) {
        const std::string name(p.also.empty() ? p.name : p.also);
        if (p.integer != nullptr) {
            all[name] = s.*p.integer;
        } else {
            all[name] = parse_real(fmt::format("{}", s.*p.number)).value_or(0);
        }
    }
    return all;
}

class NativeAnswer final : public Answer {
 public:
    NativeAnswer(Setup setup, NativeWords words)
        : Answer(std::move(setup)), words_(std::move(words)), n_sent_(n_choices()) {}

 private:
    bool keeps_tokens() const override { return words_.asked.returns_tokens || words_.asked.n_probs > 0; }

    void more(int index, const TextDelta& text, const std::vector<TokenEvent>& tokens) override {
        if (text.empty() && tokens.empty()) return;
        Json ids = Json::array();
        for (const TokenEvent& t : tokens) ids.push_back(t.id);
        n_sent_[static_cast<size_t>(index)] += tokens.size();
        Json event = {{"index", index},
                      {"content", text.thinking + text.answer},
                      {"tokens", std::move(ids)},
                      {"stop", false},
                      {"id_slot", words_.asked.id_slot},
                      {"tokens_predicted", n_sent_[static_cast<size_t>(index)]},
                      {"tokens_evaluated", n_prompt()}};
        if (words_.asked.n_probs > 0) event["completion_probabilities"] = probabilities(tokens);
        if (words_.asked.timings_per_token) event["timings"] = timings(live_usage());
        write(sse(event));
    }
    void computed(int index, const PromptProgress& p) override {
        if (!words_.asked.returns_progress) return;
        write(sse({{"index", index},
                   {"content", ""},
                   {"tokens", Json::array()},
                   {"stop", false},
                   {"prompt_progress", progress_json(p)}}));
    }
    void one_ended(int index) override {
        Json event = whole_choice(index);
        event["content"] = "";
        event["tokens"] = Json::array();
        event.erase("completion_probabilities");
        write(sse(event));
    }
    void end() override {}
    void fail(const ApiError& error) override {
        write("error: " + to_string(error_body(error, ErrorStyle::llama_cpp)["error"]) + "\n\n");
    }

    Json whole() override {
        const auto one = [&](size_t i) {
            const Json body = whole_choice(static_cast<int>(i));
            const auto& fields = words_.asked.response_fields;
            return fields.empty() ? body : chosen_fields(body, fields);
        };
        if (!words_.asked.several) return one(0);
        Json list = Json::array();
        for (size_t i = 0; i < n_choices(); ++i) list.push_back(one(i));
        return list;
    }

    Json whole_choice(int index) const {
        const Choice& c = choice(index);
        const std::string text = c.thinking + c.text;
        const FinishEvent& f = c.end.finish;
        Json ids = Json::array();
        if (words_.asked.returns_tokens) {
            for (const TokenEvent& t : c.tokens) ids.push_back(t.id);
        }
        const bool is_word = c.end.reason == "stop" && !c.end.stop_string.empty();
        Json body = {{"index", index},
                     {"content", text},
                     {"tokens", std::move(ids)},
                     {"id_slot", words_.asked.id_slot},
                     {"stop", true},
                     {"model", model()},
                     {"tokens_predicted", f.n_generated},
                     {"tokens_evaluated", f.n_prompt},
                     {"generation_settings", settings()},
                     {"prompt", words_.prompts[static_cast<size_t>(index)]},
                     {"has_new_line", text.find('\n') != std::string::npos},
                     {"truncated", f.reason == FinishReason::context},
                     {"stop_type", is_word                    ? "word"
                                   : c.end.reason == "stop"   ? "eos"
                                   : c.end.reason == "length" ? "limit"
                                                              : "none"},
                     {"stopping_word", c.end.stop_string},
                     {"tokens_cached", f.n_prompt + f.n_generated},
                     {"timings", timings(usage())}};
        if (words_.asked.n_probs > 0) body["completion_probabilities"] = probabilities(c.tokens);
        add_warnings(body);
        return body;
    }

    // Usage has them already; two more are llama.cpp's.
    static Json timings(const Usage& usage) {
        Json t = usage.timings_json();
        const auto per_token = [&](const char* ms, const char* n) {
            const double count = t.at(n).get<double>();
            return count > 0 ? t.at(ms).get<double>() / count : 0.0;
        };
        t["prompt_per_token_ms"] = per_token("prompt_ms", "prompt_n");
        t["predicted_per_token_ms"] = per_token("predicted_ms", "predicted_n");
        return t;
    }

    Json settings() const {
        const SamplingParams& s = words_.sampling;
        Json all = sampling_json(s);
        all["n_predict"] = words_.asked.n_predict;
        all["max_tokens"] = words_.asked.n_predict;
        all["seed"] = s.seed ? Json(*s.seed) : Json(-1);
        all["stop"] = words_.stop;
        all["logit_bias"] = biases();
        all["stream"] = words_.asked.stream;
        all["n_probs"] = words_.asked.n_probs;
        all["ignore_eos"] = words_.asked.request.options.ignore_eos;
        return all;
    }

    // null: never drawn.
    Json biases() const {
        Json list = Json::array();
        for (const auto& [id, bias] : words_.sampling.logit_bias) {
            list.push_back({{"token", id}, {"bias", bias <= never_drawn ? Json() : Json(bias)}});
        }
        if (!words_.asked.request.options.ignore_eos) return list;
        for (const int32_t id : chat().stop_ids()) list.push_back({{"token", id}, {"bias", nullptr}});
        return list;
    }

    Json token_json(int32_t id, float logprob) const {
        const std::string_view bytes = chat().tokenizer().token_bytes(id);
        Json values = Json::array();
        for (const char c : bytes) values.push_back(static_cast<unsigned char>(c));
        return {
            {"id", id}, {"token", std::string(bytes)}, {"bytes", std::move(values)}, {"logprob", logprob}};
    }
    Json probabilities(const std::vector<TokenEvent>& tokens) const {
        Json list = Json::array();
        for (const TokenEvent& t : tokens) {
            Json entry = token_json(t.id, t.logprob);
            entry["top_logprobs"] = Json::array();
            for (const TokenLogprob& top : t.top)
                entry["top_logprobs"].push_back(token_json(top.id, top.logprob));
            list.push_back(std::move(entry));
        }
        return list;
    }

    NativeWords words_;
    std::vector<size_t> n_sent_;  // tokens, by choice
};

void start(Call& call, NativeRequest asked) {
    asked.request.model = get<std::string>(call.body, "model").value_or("");
    asked.request.warnings = std::move(call.warnings);
    std::vector<JobSpec> jobs =
        make_jobs(call.server, asked.request, asked.prompts, asked.several, call.key, call.turn);
    NativeWords words{.asked = std::move(asked),
                      .prompts = {},
                      .sampling = jobs.front().options.sampling,
                      .stop = jobs.front().options.stop};
    for (JobSpec& job : jobs) {
        words.prompts.push_back(job.prompt.text);
        job.tells_progress = words.asked.returns_progress || words.asked.timings_per_token;
    }
    const bool stream = words.asked.stream;
    start_answer<NativeAnswer>(call, std::move(jobs), stream, ErrorStyle::llama_cpp, std::move(words));
}

ModelUse native_model(const Call& call) {
    return choose_model(call.server, {.model = get<std::string>(call.body, "model").value_or("")}, call.key);
}

}  // namespace

void native_completion(Call& call) {
    const ModelUse model = native_model(call);
    start(call, read_native_completion(call.body, model.chat()));
}

void native_infill(Call& call) {
    const ModelUse model = native_model(call);
    start(call, read_native_infill(call.body, model.chat()));
}

// A seat of the batch for each slot; any of them finds the cache.
void native_slots(Call& call) {
    const ModelUse model = choose_model(call.server, {}, call.key);
    const EngineStats stats = model.loaded->stats();
    const RequestLimits limits = model.chat().engine().limits();
    const int n_slots = limits.max_seqs * model.loaded->n_replicas();
    if (call.request.query.find("fail_on_no_slot=1") != std::string::npos && stats.n_running >= n_slots) {
        throw RequestError(
            {.status = 503, .code = "server_overloaded", .message = "no slot is free", .retry_after = 1});
    }
    Json slots = Json::array();
    for (int i = 0; i < n_slots; ++i) {
        slots.push_back({{"id", i},
                         {"id_task", -1},
                         {"n_ctx", limits.max_tokens()},
                         {"speculative", model.chat().draft_model() != nullptr},
                         {"is_processing", i < stats.n_running}});
    }
    call.exchange->send({.body = to_string(slots)});
}

void native_props(Call& call) {
    const ModelUse model = choose_model(call.server, {}, call.key);
    const ChatModel& chat = model.chat();
    const RequestLimits limits = chat.engine().limits();
    const Tokenizer& t = chat.tokenizer();
    const auto token = [&](int32_t id) { return id < 0 ? std::string() : std::string(t.token_bytes(id)); };
    Json params = sampling_json(chat.default_sampling());
    params["n_predict"] = call.server.max_tokens;
    params["seed"] = call.server.seed ? Json(*call.server.seed) : Json(-1);
    call.exchange->send(
        {.body = to_string(Json{{"default_generation_settings",
                                 {{"id", 0}, {"n_ctx", limits.max_tokens()}, {"params", std::move(params)}}},
                                {"total_slots", limits.max_seqs * model.loaded->n_replicas()},
                                {"model_alias", model.name()},
                                {"model_path", model.served->spec.path.string()},
                                {"modalities", {{"vision", chat.takes_pictures()}, {"audio", false}}},
                                {"chat_template", chat.has_template() ? chat.template_source() : ""},
                                {"bos_token", token(t.bos())},
                                {"eos_token", token(t.eos())},
                                {"build_info", "smelt " + call.server.version}})});
}

}  // namespace smelt
