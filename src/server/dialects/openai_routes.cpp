// /v1/chat/completions and /v1/completions: from the body to the jobs. On a worker: templates and tokenizers
// take their time with long texts.
#include "server/dialects/fill_in.h"
#include "server/dialects/make_job.h"
#include "server/dialects/openai_answer.h"
#include "server/dialects/openai_request.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

bool read_stream(const Json& body, OpenAiWords& words) {
    const bool stream = get<bool>(body, "stream").value_or(false);
    if (const auto options = get<Json>(body, "stream_options")) {
        if (!stream) {
            throw bad_request("invalid_value", "stream_options", "stream_options: only with stream: true");
        }
        words.include_usage = get<bool>(*options, "include_usage").value_or(false);
    }
    words.progress = get<bool>(body, "return_progress").value_or(false);
    words.timings_per_token = get<bool>(body, "timings_per_token").value_or(false);
    words.verbose = get<bool>(body, "verbose").value_or(false);
    return stream;
}

// With a suffix, prompts are what comes before a gap.
void fill_in(Call& call, CompletionRequest& c) {
    const auto suffix = get<std::string>(call.body, "suffix");
    if (!suffix || suffix->empty()) return;
    const ModelUse model = choose_model(call.server, c.request, call.key);
    c.request.model = model.name();
    const ChatModel& chat = model.chat();
    for (PlainPrompt& prompt : c.prompts) {
        const auto* ids = std::get_if<std::vector<int32_t>>(&prompt);
        const std::string prefix =
            ids != nullptr ? make_request_prompt(chat, {.plain = prompt, .param = "prompt"}, call.turn).text
                           : std::get<std::string>(prompt);
        prompt = fill_in_prompt(chat, {.prefix = prefix, .suffix = *suffix});
    }
    for (const int32_t id : fill_in_marks(chat.tokenizer()).ends()) c.request.options.stop_ids.push_back(id);
}

}  // namespace

void chat_completions(Call& call) {
    OpenAiWords words;
    const bool stream = read_stream(call.body, words);
    ChatRequest request = read_chat_request(call.body);
    words.logprobs = request.options.n_logprobs >= 0;
    words.prompt_logprobs = request.options.n_prompt_logprobs >= 0;
    words.older_calls = find_member(call.body, "functions") != nullptr;
    request.warnings = std::move(call.warnings);
    start_openai_answer(call, one_job(make_job(call.server, std::move(request), call.key, call.turn)), stream,
                        words);
}

void completions(Call& call) {
    OpenAiWords words{.chat = false};
    const bool stream = read_stream(call.body, words);
    CompletionRequest c = read_completion_request(call.body);
    words.echo = get<bool>(call.body, "echo").value_or(false);
    words.logprobs = c.request.options.n_logprobs >= 0;
    words.prompt_logprobs = find_member(call.body, "prompt_logprobs") != nullptr;
    c.request.warnings = std::move(call.warnings);
    fill_in(call, c);
    start_openai_answer(call, make_jobs(call.server, c.request, c.prompts, c.several, call.key, call.turn),
                        stream, words);
}

void chat_count_tokens(Call& call) {
    const ChatRequest request = read_conversation(call.body);
    const ModelUse model = choose_model(call.server, request, call.key);
    send_count(call, make_request_prompt(model.chat(), request, call.turn).ids.size());
}

}  // namespace smelt
