// Everything that needs the model: its template, its context, its own sampling.
#include "server/dialects/make_job.h"

#include "server/routes.h"

namespace smelt {

namespace {

void check_fits(const ChatModel& model, const Prompt& prompt, const std::string& param) {
    const int limit = model.engine().limits().max_tokens();
    if (prompt.ids.size() < static_cast<size_t>(limit)) return;
    throw RequestError(
        {.status = 400,
         .code = "context_length_exceeded",
         .message = fmt::format(
             "the prompt has {} tokens; the context of this model is {} tokens for prompt and answer",
             prompt.ids.size(), limit),
         .param = param,
         .n_prompt = static_cast<int>(prompt.ids.size()),
         .n_ctx = limit});
}

constexpr std::string_view client_salt = "client";  // their names are no cache's

uint64_t salt_of(const ServerContext& server, const ChatRequest& request, const std::string& key) {
    return server.salts.of(server.shared_prefix_cache ? "" : key, request.cache_salt);
}

// A question to a model without a template is a text that goes on.
void adapt_to_model(const ChatModel& model, ChatRequest& request) {
    if (model.has_template() || request.plain || request.param != "prompt") return;
    std::string text;
    for (const Message& m : request.messages) text += (text.empty() ? "" : "\n\n") + m.text();
    request.plain = std::move(text);
}

void set_defaults(const ServerContext& server, GenerateOptions& options) {
    if (!options.sampling.seed) options.sampling.seed = server.seed;
    if (options.max_tokens < 0) options.max_tokens = server.max_tokens;
}

void check_stop_ids(const ChatModel& model, const std::vector<int32_t>& ids) {
    for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] < model.tokenizer().n_tokens()) continue;
        throw bad_request("invalid_value", "stop_token_ids",
                          "stop_token_ids[{}]: expected ids below {}, found {}", i,
                          model.tokenizer().n_tokens(), ids[i]);
    }
}

// They are kept until the answer is whole, and each takes some hundred bytes.
void check_n_logprobs(const std::vector<JobSpec>& jobs) {
    constexpr size_t max_logprobs = size_t{1} << 21;
    size_t n = 0;
    for (const JobSpec& job : jobs) {
        if (job.options.n_prompt_logprobs < 0) continue;
        n += job.prompt.ids.size() * static_cast<size_t>(1 + job.options.n_prompt_logprobs) *
             static_cast<size_t>(job.options.n);
    }
    if (n <= max_logprobs) return;
    throw bad_request("invalid_value", "logprobs",
                      "logprobs: the prompts would have {} log-probabilities, at most {} go into an answer",
                      n, max_logprobs);
}

}  // namespace

std::vector<AdapterUse> adapters_of(const ModelUse& model, const ChatRequest& request) {
    if (!request.lora) return model.adapters;
    std::vector<AdapterUse> uses;
    for (const auto& [id, scale] : *request.lora) {
        const auto use = model.loaded->adapters().find(id, scale);
        if (!use) {
            std::string known;
            for (const auto& a : model.loaded->adapters().list())
                known += fmt::format("{}{} ({})", known.empty() ? "" : ", ", a.id, a.spec.name);
            throw bad_request("invalid_value", "lora", "lora: there is no adapter {}; there are: {}", id,
                              known.empty() ? "none" : known);
        }
        if (scale != 0) uses.push_back(*use);
    }
    return uses;
}

ModelUse choose_model(ServerContext& server, const ChatRequest& r, const std::string& key) {
    return server.models.choose({.name = r.model,
                                 .priority = r.priority,
                                 .max_tokens = r.options.max_tokens,
                                 .key = key,
                                 .has_pictures = has_pictures(r)});
}

Prompt make_request_prompt(const ChatModel& model, const ChatRequest& request, const WorkerTurn& turn) {
    if (!request.plain && !model.has_template()) {
        throw bad_request("not_supported", "messages",
                          "the model has no chat template; /v1/completions works");
    }
    if (has_pictures(request)) {
        if (!model.takes_pictures()) {
            throw bad_request("unsupported_content", request.param,
                              "{}: the model sees text alone, no pictures", request.param);
        }
        const auto is_address = [](const Part& part) {
            const auto* image = std::get_if<ImagePart>(&part);
            return image != nullptr && image->file == nullptr;
        };
        for (const Message& m : request.messages) {
            if (model.fetch_picture() || std::ranges::none_of(m.parts, is_address)) continue;
            throw bad_request(
                "unsupported_content", request.param,
                "{}: expected pictures as data: URLs with base64; nothing is fetched from other "
                "places without --allow-image-urls",
                request.param);
        }
        if (!turn.may_take_long) throw TakesLong{};
    }
    try {
        return make_prompt(model, request);
    } catch (const TemplateError& e) {
        throw bad_request("template_error", "messages", "the model's chat template refused: {}", e.message());
    } catch (const Error& e) {
        throw bad_request("invalid_value", request.param, "{}", e.what());
    }
}

JobSpec make_job(ServerContext& server, ChatRequest request, const std::string& key, const WorkerTurn& turn,
                 const SchemaNames& names) {
    const ModelUse model = choose_model(server, request, key);
    const ChatModel& chat = model.chat();
    adapt_to_model(chat, request);
    check_stop_ids(chat, request.options.stop_ids);
    JobSpec job{.model = model,
                .prompt = make_request_prompt(chat, request, turn),
                .options = make_options(chat, request),
                .warnings = std::move(request.warnings)};
    set_defaults(server, job.options);
    job.options.adapters = adapters_of(model, request);
    job.options.cache_salt = salt_of(server, request, key);
    job.options.client = server.salts.of(turn.client, client_salt);
    job.drop_calls = !request.tools.may_call;
    check_fits(chat, job.prompt, request.param);
    const CompileTurn compile{turn, job.prompt.ids.size(), job.warnings};
    job.options.grammar = request.plain ? compile_text_constraint(chat, request, compile)
                                        : compile_chat_constraint(chat, job.prompt, request, names, compile);
    return job;
}

std::vector<JobSpec> make_jobs(ServerContext& server, const ChatRequest& request,
                               const std::vector<PlainPrompt>& prompts, bool several, const std::string& key,
                               const WorkerTurn& turn) {
    const ModelUse model = choose_model(server, request, key);
    const ChatModel& chat = model.chat();
    check_stop_ids(chat, request.options.stop_ids);
    ChatRequest one = request;
    one.plain = prompts.front();
    GenerateOptions options = make_options(chat, one);
    set_defaults(server, options);
    options.adapters = adapters_of(model, request);
    options.cache_salt = salt_of(server, request, key);
    options.client = server.salts.of(turn.client, client_salt);
    options.batch = prompts.size() > 1;
    std::vector<std::string> warnings = request.warnings;
    options.grammar = compile_text_constraint(chat, request, {turn, 0, warnings});
    std::vector<JobSpec> jobs;
    for (size_t i = 0; i < prompts.size(); ++i) {
        one.param = several ? fmt::format("{}[{}]", request.param, i) : request.param;
        one.plain = prompts[i];
        jobs.push_back({.model = model, .prompt = make_request_prompt(chat, one, turn), .options = options});
        check_fits(chat, jobs.back().prompt, one.param);
    }
    check_n_logprobs(jobs);
    jobs.front().warnings = std::move(warnings);
    return jobs;
}

}  // namespace smelt
