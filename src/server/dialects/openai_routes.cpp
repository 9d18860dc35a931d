// /v1/chat/completions and /v1/completions: from the body to the jobs. On a worker: templates and tokenizers
// take their time with long texts.
#include "server/dialects/openai_answer.h"

namespace smelt {

namespace {

void start(Call& call, OpenAiRequest request) {
    auto shared = std::make_shared<OpenAiRequest>(std::move(request));
    call.exchange->post([&server = call.server, exchange = call.exchange, shared] {
        answer_errors(server, *exchange, true,
                      [&] { start_openai_answer(server, exchange, std::move(*shared)); });
    });
}

uint64_t cache_salt(const Call& call) {
    return read_cache_salt(call.body, call.server.shared_prefix_cache ? "" : call.key);
}

OpenAiRequest read_common(const Json& body) {
    OpenAiRequest r;
    r.stream = get<bool>(body, "stream").value_or(false);
    if (const auto options = get<Json>(body, "stream_options")) {
        if (!r.stream) {
            throw bad_request("invalid_value", "stream_options", "stream_options: only with stream: true");
        }
        r.include_usage = get<bool>(*options, "include_usage").value_or(false);
    }
    return r;
}

}  // namespace

void chat_completions(Call& call) {
    const Json& body = call.body;
    OpenAiRequest request = read_common(body);
    JobSpec job = make_chat_job(call.server, body, call.key);
    request.logprobs = get<bool>(body, "logprobs").value_or(false);
    const auto top = get<int>(body, "top_logprobs");
    if (top && !request.logprobs) {
        throw bad_request("invalid_value", "top_logprobs", "top_logprobs: only with logprobs: true");
    }
    if (request.logprobs) job.options.n_logprobs = top.value_or(0);
    request.jobs.push_back(std::move(job));
    start(call, std::move(request));
}

void completions(Call& call) {
    const Json& body = call.body;
    OpenAiRequest request = read_common(body);
    request.chat = false;
    request.echo = get<bool>(body, "echo").value_or(false);
    const auto logprobs = get<int>(body, "logprobs");
    request.logprobs = logprobs.has_value();
    constexpr int default_max_tokens = 16;  // OpenAI's
    const int given = read_max_tokens(body);
    const int max_tokens = given < 0 ? default_max_tokens : given;
    const ModelUse model = call.server.models.choose(read_choice(body, call.key, max_tokens));

    const auto grammar = compile_text_constraint(model.chat(), body);
    const Json& prompt = body.at("prompt");
    const bool several = prompt.is_array() && !prompt[0].is_number();
    const Json prompts = several ? prompt : Json::array({prompt});
    for (size_t i = 0; i < prompts.size(); ++i) {
        const std::string param = several ? fmt::format("prompt[{}]", i) : "prompt";
        JobSpec job{.model = model,
                    .prompt = make_plain_prompt(model.chat(), prompts[i], param),
                    .options = read_options(body, model.chat())};
        job.options.cache_salt = cache_salt(call);
        job.options.max_tokens = max_tokens;
        job.options.split_thinking = false;
        job.options.n_logprobs = logprobs.value_or(-1);
        if (request.echo) job.options.n_prompt_logprobs = job.options.n_logprobs;
        check_fits(model.chat(), job.prompt, param);
        job.options.grammar = grammar;
        request.jobs.push_back(std::move(job));
    }
    start(call, std::move(request));
}

}  // namespace smelt
