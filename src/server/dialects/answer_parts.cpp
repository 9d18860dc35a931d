// Counts, calls and events.
#include "server/dialects/answer_parts.h"

#include <random>

#include "server/routes.h"

namespace smelt {

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
        case Failure::grammar:  // the client's own
            return {.status = 400, .code = "invalid_schema", .message = finish.error};
        case Failure::numbers:
        case Failure::none:
            break;
    }
    return {.status = 500, .code = "numeric_error", .message = finish.error};
}

void Usage::add(const AnswerEnd& end) {
    const FinishEvent& f = end.finish;
    n_thinking += end.n_thinking;
    if (f.index == 0) {
        n_prompt += f.n_prompt;
        n_cached += f.n_cached_prompt;
    }
    n_answer += f.n_generated;
    has_prediction |= f.has_prediction;
    n_drafted += f.n_drafted;
    n_draft_accepted += f.n_draft_accepted;
    queued = std::max(queued, f.queued);
    prefill = std::max(prefill, f.prefill);
    decode = std::max(decode, f.decode);
}

Json Usage::usage_json() const {
    Json details = {{"reasoning_tokens", n_thinking}};
    if (has_prediction) {
        details["accepted_prediction_tokens"] = n_draft_accepted;
        details["rejected_prediction_tokens"] = n_drafted - n_draft_accepted;
    }
    return {{"prompt_tokens", n_prompt},
            {"completion_tokens", n_answer},
            {"total_tokens", n_prompt + n_answer},
            {"prompt_tokens_details", {{"cached_tokens", n_cached}}},
            {"completion_tokens_details", std::move(details)}};
}

Json Usage::timings_json() const {
    const auto rate = [](int n, double seconds) { return seconds > 0 ? n / seconds : 0; };
    const ProcessUse process = read_process_use();
    Json timings = {{"cache_n", n_cached},
                    {"prompt_n", n_prompt - n_cached},
                    {"queued_ms", 1e3 * queued},
                    {"prompt_ms", 1e3 * prefill},
                    {"prompt_per_second", rate(n_prompt - n_cached, prefill)},
                    {"predicted_n", n_answer},
                    {"predicted_ms", 1e3 * decode},
                    // The first token belongs to the prompt's time.
                    {"predicted_per_second", rate(n_answer - 1, decode)},
                    // Of the whole process, whoever else it worked for meanwhile.
                    {"process_cpu_ms", 1e3 * (process.cpu_seconds - cpu_at_start)},
                    {"resident_bytes", process.resident}};
    if (n_drafted > 0) timings.update({{"draft_n", n_drafted}, {"draft_n_accepted", n_draft_accepted}});
    return timings;
}

Json progress_json(const PromptProgress& p) {
    return {{"total", p.n_prompt},
            {"cache", p.n_cached},
            {"processed", p.n_done},
            {"time_ms", static_cast<int64_t>(p.seconds * 1000)}};
}

void send_count(Call& call, size_t n_tokens) {
    Json body = {{"object", "response.input_tokens"}, {"input_tokens", n_tokens}};
    if (!call.warnings.empty()) body["warnings"] = call.warnings;
    call.exchange->send({.body = to_string(body)});
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
