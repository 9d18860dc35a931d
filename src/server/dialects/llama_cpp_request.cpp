// Their fields, and what of them is another way to say what all dialects say.
#include "server/dialects/llama_cpp_request.h"

#include "server/dialects/answer_parts.h"
#include "server/dialects/constraints.h"
#include "server/dialects/fill_in.h"
#include "server/dialects/sampling_fields.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

using enum FieldType;

constexpr size_t max_extras = 256;

// {"prompt_string": "..."}, which has pictures and sounds beside it where a model takes them.
void check_prompt_object(const std::string& param, const Json& v) {
    need_string(param, v, "prompt_string");
    const Json* media = find_member(v, "multimodal_data");
    if (media != nullptr && !(media->is_array() && media->empty())) {
        throw bad_request("not_supported", param + ".multimodal_data", "{}.multimodal_data: models read text",
                          param);
    }
}

// A text, an object with one, or an array of texts and token ids mixed.
void check_one_prompt(const std::string& param, const Json& v) {
    if (v.is_string()) return;
    if (v.is_object()) return check_prompt_object(param, v);
    if (!v.is_array() || v.empty()) wrong_type(param, "a string, or an array of strings and token ids", v);
    for (size_t i = 0; i < v.size(); ++i) {
        if (v[i].is_string()) continue;
        check_integer(fmt::format("{}[{}]", param, i), v[i], 0, max_count);
    }
}

// Several prompts: an array with an array or an object in it, or of texts alone.
bool is_several(const Json& v) {
    if (!v.is_array()) return false;
    const auto is_array = [](const Json& part) { return part.is_array() || part.is_object(); };
    const auto is_text = [](const Json& part) { return part.is_string(); };
    return std::ranges::any_of(v, is_array) || std::ranges::all_of(v, is_text);
}

void check_prompts(const std::string& param, const Json& v) {
    if (!is_several(v)) return check_one_prompt(param, v);
    if (v.empty() || v.size() > max_prompts)
        wrong_value(param, fmt::format("1 to {} prompts", max_prompts), v);
    for (size_t i = 0; i < v.size(); ++i) check_one_prompt(fmt::format("{}[{}]", param, i), v[i]);
}

const CompoundType prompts_type = {
    .description = "string, {prompt_string}, array of strings and token ids, or array of such",
    .check = check_prompts,
    .openapi =
        R"({"oneOf": [{"type": "string"}, {"type": "object", "properties": {"prompt_string": {"type": "string"}}, "required": ["prompt_string"]}, {"type": "array", "items": {}}]})"};

void check_bias(const std::string& param, const Json& bias) {
    if (bias.is_boolean() && !bias.get<bool>()) return;  // false: never
    check_number(param, bias, -1000, 1000);
}

void check_native_bias(const std::string& param, const Json& v) {
    if (v.size() > max_logit_bias) wrong_value(param, fmt::format("at most {} entries", max_logit_bias), v);
    if (v.is_object()) {
        for (const auto& [key, bias] : v.items()) check_bias(param + "." + key.substr(0, 40), bias);
        return;
    }
    if (!v.is_array()) wrong_type(param, "an object, or an array of [token, bias]", v);
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        if (!v[i].is_array() || v[i].size() != 2) wrong_type(at, "[token id or text, bias]", v[i]);
        if (!v[i][0].is_string()) check_integer(at + "[0]", v[i][0], 0, max_count);
        check_bias(at + "[1]", v[i][1]);
    }
}

const CompoundType native_bias_type = {
    .description = "object, or array of [token id or text, bias or false]",
    .check = check_native_bias,
    .openapi = R"({"oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "array"}}]})"};

void check_names(const std::string& param, const Json& v) {
    if (!v.is_array()) wrong_type(param, "an array of strings", v);
    for (size_t i = 0; i < v.size(); ++i) check_string(fmt::format("{}[{}]", param, i), v[i], 200);
}

const CompoundType names_type = {.description = "array of strings",
                                 .check = check_names,
                                 .openapi = R"({"type": "array", "items": {"type": "string"}})"};

void check_extras(const std::string& param, const Json& v) {
    if (!v.is_array()) wrong_type(param, "an array of {filename, text}", v);
    if (v.size() > max_extras) wrong_value(param, fmt::format("at most {} files", max_extras), v);
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        check_object(at, v[i]);
        need_string(at, v[i], "text");
        if (const Json* name = find_member(v[i], "filename")) check_string(at + ".filename", *name, 1000);
    }
}

const CompoundType extras_type = {
    .description = "array of {filename, text}",
    .check = check_extras,
    .openapi =
        R"({"type": "array", "items": {"type": "object", "properties": {"filename": {"type": "string"}, "text": {"type": "string"}}, "required": ["text"]}})"};

std::vector<Field> native_fields() {
    std::vector<Field> fields =
        table_fields([](const SamplingParam& p) { return p.also.empty() ? p.name : p.also; }, Range::engine);
    const Field others[] = {
        {.name = "model", .type = string, .doc = "As in the other dialects.", .max_length = 512},
        {.name = "n_predict",
         .type = integer,
         .doc = "Tokens of the answer at most; -1: until the model ends or the context is full.",
         .min = -1,
         .max = max_count,
         .fallback = "-1"},
        {.name = "stream", .type = boolean, .doc = "Send server-sent events.", .fallback = "false"},
        {.name = "stop", .type = FieldType::stop, .doc = "The answer ends before the first of these."},
        {.name = "seed", .type = integer, .doc = "Same seed, same answer; -1: another each time."},
        {.name = "ignore_eos",
         .type = boolean,
         .doc = "Go on even where the model would end.",
         .fallback = "false"},
        {.name = "logit_bias",
         .type = compound,
         .doc = "Added to the logits of these tokens; false: never drawn.",
         .compound = &native_bias_type},
        {.name = "n_probs",
         .type = integer,
         .doc = "The likeliest tokens at each place, as completion_probabilities.",
         .min = 0,
         .max = 100,
         .fallback = "0"},
        {.name = "post_sampling_probs",
         .type = unsupported,
         .doc = "probabilities are the model's own, before sampling.",
         .choices = {"false"}},
        {.name = "dry_sequence_breakers",
         .type = FieldType::stop,
         .doc = "DRY: no repetition goes across these."},
        {.name = "cache_prompt",
         .type = boolean,
         .doc = "false: compute the whole prompt, whatever the cache holds. The answer is the same.",
         .fallback = "true"},
        {.name = "id_slot",
         .type = integer,
         .doc = "Accepted; any seat of the batch finds the cache.",
         .min = -1,
         .max = max_count},
        {.name = "return_tokens",
         .type = boolean,
         .doc = "The ids of the answer's tokens, as tokens.",
         .fallback = "false"},
        {.name = "timings_per_token",
         .type = boolean,
         .doc = "Timings with each event of a stream.",
         .fallback = "false"},
        {.name = "return_progress",
         .type = boolean,
         .doc = "Events with prompt_progress while the prompt is computed.",
         .fallback = "false"},
        {.name = "response_fields",
         .type = compound,
         .doc = "Only these of the answer, such as content or generation_settings/n_predict.",
         .compound = &names_type},
        {.name = "n_keep",
         .type = integer,
         .doc = "Accepted; the context is never shifted.",
         .min = -1,
         .max = max_count},
        {.name = "n_discard", .type = integer, .doc = "Accepted as n_keep is.", .min = 0, .max = max_count},
        {.name = "mirostat", .type = unsupported, .doc = "there is no Mirostat.", .choices = {"0"}},
        {.name = "dynatemp_range",
         .type = unsupported,
         .doc = "the temperature is fixed.",
         .choices = {"0", "0.0"}},
        {.name = "t_max_predict_ms",
         .type = unsupported,
         .doc = "n_predict is the limit.",
         .choices = {"0", "-1"}},
        {.name = "n_indent",
         .type = unsupported,
         .doc = "grammars hold answers to a form.",
         .choices = {"0"}},
        {.name = "min_keep",
         .type = unsupported,
         .doc = "each stage keeps at least one.",
         .choices = {"0", "1"}},
        max_drafts_field(),
        lora_field(),
        {.name = "cache_salt",
         .type = string,
         .doc = "Cached prefixes are shared with requests of the same key and salt alone.",
         .max_length = 256}};
    fields.insert(fields.end(), std::begin(others), std::end(others));
    const std::vector<Field> bounds = constraint_fields();
    fields.insert(fields.end(), bounds.begin(), bounds.end());
    return fields;
}

std::vector<Field> with_first(std::vector<Field> first) {
    const std::vector<Field> rest = native_fields();
    first.insert(first.end(), rest.begin(), rest.end());
    return first;
}

PlainPrompt one_prompt(const Json& v, const Tokenizer& tokenizer) {
    if (v.is_string()) return v.get<std::string>();
    if (v.is_object()) return v.at("prompt_string").get<std::string>();
    std::vector<int32_t> ids;
    for (size_t i = 0; i < v.size(); ++i) {
        if (!v[i].is_string()) {
            ids.push_back(v[i].get<int32_t>());
            continue;
        }
        const auto more = tokenizer.encode(v[i].get_ref<const std::string&>(), {.add_special = i == 0});
        ids.insert(ids.end(), more.begin(), more.end());
    }
    return ids;
}

void read_native_bias(const Json& v, const Tokenizer& tokenizer, SamplingParams& to) {
    const auto add = [&](const Json& token, const Json& bias) {
        const float value = bias.is_boolean() ? never_drawn : bias.get<float>();
        if (token.is_number()) return void(to.logit_bias.emplace_back(token.get<int32_t>(), value));
        const auto& text = token.get_ref<const std::string&>();
        const bool is_id = !text.empty() && text.size() < 10 &&
                           text.find_first_not_of("0123456789") == std::string::npos && v.is_object();
        if (is_id) return void(to.logit_bias.emplace_back(static_cast<int32_t>(std::stol(text)), value));
        for (const int32_t id : tokenizer.encode(text)) to.logit_bias.emplace_back(id, value);
    };
    if (v.is_object()) {
        for (const auto& [key, bias] : v.items()) add(Json(key), bias);
    } else {
        for (const Json& pair : v) add(pair[0], pair[1]);
    }
}

// All but the prompt.
NativeRequest read_native(Json body, const ChatModel& model) {
    NativeRequest n;
    ChatRequest& r = n.request;
    r.param = "prompt";
    if (const Json* bias = find_member(body, "logit_bias")) {
        read_native_bias(*bias, model.tokenizer(), r.options.sampling);
        body.erase("logit_bias");
    }
    if (get<int64_t>(body, "seed").value_or(0) < 0) body.erase("seed");
    read_sampling(body, r);
    r.bound = read_bound(body);
    n.n_predict = r.options.max_tokens = get<int>(body, "n_predict").value_or(-1);
    n.n_probs = get<int>(body, "n_probs").value_or(0);
    if (n.n_probs > 0) r.options.n_logprobs = n.n_probs;
    n.stream = get<bool>(body, "stream").value_or(false);
    n.returns_tokens = get<bool>(body, "return_tokens").value_or(false);
    n.returns_progress = get<bool>(body, "return_progress").value_or(false);
    n.timings_per_token = get<bool>(body, "timings_per_token").value_or(false);
    n.id_slot = get<int64_t>(body, "id_slot").value_or(-1);
    if (const auto fields = get<Json>(body, "response_fields")) n.response_fields = *fields;
    r.lora = read_lora(body);
    // A salt that nobody else has finds nothing.
    if (!get<bool>(body, "cache_prompt").value_or(true)) r.cache_salt = random_id("uncached");
    return n;
}

}  // namespace

NativeRequest read_native_completion(const Json& body, const ChatModel& model) {
    NativeRequest n = read_native(body, model);
    const Json& prompt = body.at("prompt");
    n.several = is_several(prompt);
    if (n.several) {
        for (const Json& p : prompt) n.prompts.push_back(one_prompt(p, model.tokenizer()));
    } else {
        n.prompts.push_back(one_prompt(prompt, model.tokenizer()));
    }
    return n;
}

NativeRequest read_native_infill(const Json& body, const ChatModel& model) {
    NativeRequest n = read_native(body, model);
    FillIn parts{.prefix = get<std::string>(body, "input_prefix").value_or(""),
                 .suffix = get<std::string>(body, "input_suffix").value_or(""),
                 .begun = get<std::string>(body, "prompt").value_or("")};
    if (const auto extras = get<Json>(body, "input_extra")) {
        for (const Json& e : *extras) {
            parts.extras.push_back({e.value("filename", "tmp"), e.at("text").get<std::string>()});
        }
    }
    n.prompts.push_back(fill_in_prompt(model, parts));
    for (const int32_t id : fill_in_marks(model.tokenizer()).ends()) n.request.options.stop_ids.push_back(id);
    return n;
}

const RequestSchema native_completion_schema = {
    .name = "LlamaCompletionRequest",
    .fields =
        with_first({{.name = "prompt",
                     .type = compound,
                     .doc = "Text, token ids, or both mixed, that the answer goes on from; or several such.",
                     .required = true,
                     .compound = &prompts_type}}),
    .example = R"({"prompt": "What is 12 + 30?", "n_predict": 16, "temperature": 0})"};

const RequestSchema native_infill_schema = {
    .name = "LlamaInfillRequest",
    .fields = with_first({{.name = "input_prefix", .type = string, .doc = "The text before the gap."},
                          {.name = "input_suffix", .type = string, .doc = "The text after the gap."},
                          {.name = "prompt", .type = string, .doc = "How the text in the gap begins."},
                          {.name = "input_extra",
                           .type = compound,
                           .doc = "Other files, for context.",
                           .compound = &extras_type}}),
    .example = R"({"input_prefix": "def add(a, b):\n    return ", "input_suffix": "\n", "n_predict": 16})"};

}  // namespace smelt
