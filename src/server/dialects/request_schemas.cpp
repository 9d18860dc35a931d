// The fields of every request. A field that is not here does not reach the engine.
#include "server/dialects/constraints.h"
#include "server/dialects/openai_messages.h"
#include "server/dialects/prediction.h"
#include "server/dialects/sampling_fields.h"

namespace smelt {

namespace {

using enum FieldType;

const Field model_field = {
    .name = "model",
    .type = string,
    .doc = "A name of GET /v1/models, or auto. Default: the first model, or auto where several are served.",
    .max_length = 512};
const Field progress_field = {
    .name = "return_progress",
    .type = boolean,
    .doc = "With stream: events with prompt_progress while the prompt is computed, as llama.cpp has them.",
    .fallback = "false"};
const Field token_timings_field = {.name = "timings_per_token",
                                   .type = boolean,
                                   .doc = "With stream: timings with each event, as llama.cpp has them.",
                                   .fallback = "false"};
const Field verbose_field = {.name = "verbose",
                             .type = boolean,
                             .doc = "__verbose.prompt of the answer is the text that the model saw.",
                             .fallback = "false"};
const Field stream_field = {.name = "stream",
                            .type = boolean,
                            .doc = "Send the answer as server-sent events while it is made.",
                            .fallback = "false"};

}  // namespace

// How tokens are drawn and when an answer ends.
std::vector<Field> openai_sampling_fields() {
    std::vector<Field> fields = table_fields([](const SamplingParam& p) { return p.name; }, Range::openai);
    for (const SamplingParam& p : sampling_table()) {
        if (p.also.empty()) continue;
        fields.push_back(table_field(p, p.also, Range::openai));
        fields.back().doc = "llama.cpp's name of repetition_penalty.";
    }
    const Field others[] = {
        {.name = "seed", .type = integer, .doc = "Same seed, same answer."},
        {.name = "stop", .type = FieldType::stop, .doc = "The answer ends before the first of these."},
        {.name = "stop_token_ids",
         .type = token_ids,
         .doc = "The answer ends before the first of these, as before the model's own end of turn."},
        {.name = "logit_bias", .type = FieldType::logit_bias, .doc = "Added to the logits of these tokens."},
        {.name = "n",
         .type = integer,
         .doc = "Answers; the prompt is computed once.",
         .min = 1,
         .max = 16,
         .fallback = "1"},
        {.name = "best_of",
         .type = integer,
         .doc =
             "Generates this many answers and returns the n with the highest mean log-probability, when all "
             "have ended. Default: n.",
         .min = 1,
         .max = 16},
        {.name = "use_beam_search",
         .type = boolean,
         .doc = "The n likeliest answers by a search of best_of beams; nothing is drawn.",
         .fallback = "false"},
        {.name = "length_penalty",
         .type = number,
         .doc = "Of beam search: an answer's score is divided by its tokens to this power.",
         .low = -10,
         .high = 10,
         .fallback = "1"},
        {.name = "dry_sequence_breakers",
         .type = FieldType::stop,
         .doc = "DRY: no repetition goes across these. Default: line break, colon, quote, asterisk."},
        {.name = "ignore_eos",
         .type = boolean,
         .doc = "Go on to max_tokens even where the model would end.",
         .fallback = "false"},
        {.name = "min_tokens",
         .type = integer,
         .doc = "The model cannot end before this many.",
         .min = 0,
         .max = max_count,
         .fallback = "0"},
        {.name = "priority",
         .type = priority,
         .doc =
             "speed, quality and balanced choose among the models when model is auto; background waits for "
             "interactive requests, as a number below 0 does; higher numbers go first."},
        {.name = "service_tier",
         .type = string,
         .doc = "OpenAI's name for the queue: flex waits for others as background does, priority goes first.",
         .choices = {"auto", "default", "flex", "priority"}},
        {.name = "cache_salt",
         .type = string,
         .doc = "Cached prefixes are shared with requests of the same key and salt alone.",
         .max_length = 256},
        max_drafts_field(),
        lora_field(),
        {.name = "user", .type = string, .doc = "Accepted and not used.", .max_length = 512},
    };
    fields.insert(fields.end(), std::begin(others), std::end(others));
    return fields;
}

namespace {

// How many tokens: OpenAI's two names and llama.cpp's; -1 is "no limit" for many clients.
Field max_tokens_field(std::string_view name, std::string_view doc) {
    return {.name = name, .type = integer, .doc = doc, .min = 1, .max = max_count, .or_minus_one = true};
}

const Field enable_thinking_field = {
    .name = "enable_thinking",
    .type = boolean,
    .doc = "Whether the model thinks first. Default: as its template has it."};
const Field template_kwargs_field = {.name = "chat_template_kwargs",
                                     .type = template_kwargs,
                                     .doc = "Variables for the model's template, such as enable_thinking."};
const Field effort_field = {.name = "reasoning_effort",
                            .type = string,
                            .doc = "none turns thinking off; the others are for the template.",
                            .choices = {"none", "minimal", "low", "medium", "high", "xhigh"}};
const Field thinking_budget_field = {.name = "thinking_token_budget",
                                     .type = integer,
                                     .doc = "The model thinks this many tokens at most, then answers.",
                                     .min = 0,
                                     .max = max_count};
const std::vector<Field> continuation_fields = {
    {.name = "continue_final_message",
     .type = boolean,
     .doc =
         "Go on with the last message, the assistant's, in place of a new one. Default: true where the last "
         "message is the assistant's and add_generation_prompt is not given."},
    {.name = "add_generation_prompt",
     .type = boolean,
     .doc = "End with the beginning of an answer; true closes a last message of the assistant's."}};
const Field prompt_logprobs_field = {.name = "prompt_logprobs",
                                     .type = integer,
                                     .doc =
                                         "Log-probabilities of the prompt's tokens, and of this many "
                                         "likeliest at each place, as vLLM gives them.",
                                     .min = 0,
                                     .max = 20};

std::vector<Field> join(std::vector<Field> a, const std::vector<Field>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

const Field tools_field = {
    .name = "tools", .type = compound, .doc = "Functions that the model may call.", .compound = &tools_type};
const std::vector<Field> tool_fields = {
    tools_field,
    {.name = "tool_choice",
     .type = compound,
     .doc =
         "none: the model is not told of the tools; auto, the default: it chooses; required, or the name of "
         "one: it must call.",
     .compound = &tool_choice_type},
    {.name = "parallel_tool_calls",
     .type = boolean,
     .doc = "false: the answer ends after its first call.",
     .fallback = "true"},
    {.name = "functions", .type = compound, .doc = "The older name of tools.", .compound = &functions_type},
    {.name = "function_call",
     .type = compound,
     .doc = "The older name of tool_choice.",
     .compound = &function_call_type},
    {.name = "chat_template",
     .type = unsupported,
     .doc = "Templates come with the model, never with a request."},
};

}  // namespace

const RequestSchema chat_schema = {
    .name = "ChatCompletionRequest",
    .fields = join(
        join({model_field,
              {.name = "messages",
               .type = compound,
               .doc = "The conversation: text, or arrays of text parts.",
               .required = true,
               .compound = &messages_type},
              max_tokens_field("max_completion_tokens",
                               "Tokens of the answer at most. Default and -1: until the context is full."),
              max_tokens_field("max_tokens", "The older name of max_completion_tokens."),
              max_tokens_field("n_predict", "llama.cpp's name of max_completion_tokens."),
              stream_field,
              progress_field,
              token_timings_field,
              verbose_field,
              {.name = "stream_options",
               .type = stream_options,
               .doc = "include_usage: a last event with token counts."},
              {.name = "logprobs",
               .type = boolean,
               .doc = "Log-probabilities of the answer's tokens.",
               .fallback = "false"},
              {.name = "top_logprobs",
               .type = integer,
               .doc = "And of this many likeliest tokens at each place; needs logprobs.",
               .min = 0,
               .max = 20},
              prompt_logprobs_field,
              {.name = "prediction",
               .type = compound,
               .doc = "How the answer may go, such as a file that it changes in a few places: what comes of "
                      "it is computed several tokens at once. The answer is the same.",
               .compound = &prediction_type},
              template_kwargs_field,
              enable_thinking_field,
              effort_field,
              thinking_budget_field},
             join(continuation_fields, openai_sampling_fields())),
        join(tool_fields, constraint_fields())),
    .example = R"({"messages": [{"role": "user", "content": "What is 12 + 30?"}], "temperature": 0})"};

const RequestSchema completion_schema = {
    .name = "CompletionRequest",
    .fields = join(
        {model_field,
         {.name = "prompt",
          .type = prompt,
          .doc = "Text or token ids that the answer goes on from.",
          .required = true},
         {.name = "max_tokens",
          .type = integer,
          .doc = "Tokens of the answer at most; 0: none; -1: until the context is full.",
          .min = -1,
          .max = max_count,
          .fallback = "16"},
         {.name = "n_predict",
          .type = integer,
          .doc = "llama.cpp's name of max_tokens.",
          .min = -1,
          .max = max_count},
         prompt_logprobs_field,
         stream_field,
         progress_field,
         token_timings_field,
         verbose_field,
         {.name = "stream_options",
          .type = stream_options,
          .doc = "include_usage: a last event with token counts."},
         {.name = "echo", .type = boolean, .doc = "The text begins with the prompt.", .fallback = "false"},
         {.name = "logprobs",
          .type = integer,
          .doc =
              "Log-probabilities of the tokens, and of this many likeliest; with echo those of the prompt as "
              "well.",
          .min = 0,
          .max = 5},
         {.name = "suffix",
          .type = string,
          .doc = "The answer goes between prompt and this text; needs a model that was trained to fill in."}},
        join(openai_sampling_fields(), constraint_fields())),
    .example = R"({"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0})"};

const RequestSchema generate_schema = {
    .name = "GenerateRequest",
    .fields = join(
        {model_field,
         {.name = "prompt",
          .type = string,
          .doc = "What is asked; the model's chat template is put around it.",
          .required = true},
         {.name = "system", .type = string, .doc = "System message."},
         {.name = "raw",
          .type = boolean,
          .doc = "Go on from the prompt as it is, without a template.",
          .fallback = "false"},
         {.name = "max_tokens",
          .type = integer,
          .doc = "Tokens of the answer at most; -1: until the context is full. More than 200 and model auto: "
                 "the most efficient model.",
          .min = -1,
          .max = max_count,
          .fallback = "100"},
         {.name = "n_predict",
          .type = integer,
          .doc = "llama.cpp's name of max_tokens.",
          .min = -1,
          .max = max_count},
         stream_field,
         template_kwargs_field,
         enable_thinking_field,
         effort_field,
         thinking_budget_field},
        join(openai_sampling_fields(), constraint_fields())),
    .example = R"({"prompt": "What is 12 + 30?", "max_tokens": 50, "priority": "speed"})"};

namespace {

// What a conversation looks like to the model, and nothing of its answer.
const std::vector<Field> conversation_fields = join(
    join({template_kwargs_field, enable_thinking_field, effort_field}, continuation_fields), tool_fields);

}  // namespace

const RequestSchema tokenize_schema = {
    .name = "TokenizeRequest",
    .fields = join({model_field,
                    {.name = "content", .type = string, .doc = "Text. Either this or messages."},
                    {.name = "messages",
                     .type = compound,
                     .doc = "A conversation; the model's template is applied.",
                     .compound = &messages_type},
                    {.name = "add_special",
                     .type = boolean,
                     .doc = "With the tokens that the vocabulary puts around a text.",
                     .fallback = "false"},
                    {.name = "with_pieces",
                     .type = boolean,
                     .doc = "The text of each token as well.",
                     .fallback = "false"}},
                   conversation_fields),
    .example = R"({"content": "Hello world", "with_pieces": true})"};

const RequestSchema detokenize_schema = {
    .name = "DetokenizeRequest",
    .fields = {model_field, {.name = "tokens", .type = token_ids, .doc = "Token ids.", .required = true}},
    .example = R"({"tokens": [100, 200, 300]})"};

const RequestSchema template_schema = {.name = "ApplyTemplateRequest",
                                       .fields = join({model_field,
                                                       {.name = "messages",
                                                        .type = compound,
                                                        .doc = "The conversation.",
                                                        .required = true,
                                                        .compound = &messages_type}},
                                                      conversation_fields),
                                       .example = R"({"messages": [{"role": "user", "content": "Hello"}]})"};

const RequestSchema load_schema = {.name = "LoadRequest",
                                   .fields = {{.name = "name",
                                               .type = string,
                                               .doc = "What requests call the model.",
                                               .required = true,
                                               .max_length = 128},
                                              {.name = "path",
                                               .type = string,
                                               .doc = "Model folder, .gguf or .bin on the server.",
                                               .required = true,
                                               .max_length = 4096}},
                                   .example = R"({"name": "large", "path": "models/demo-23m"})"};

const RequestSchema load_adapter_schema = {
    .name = "LoadLoraAdapterRequest",
    .fields = {{.name = "lora_name",
                .type = string,
                .doc = "What requests call the adapter.",
                .required = true,
                .max_length = 128},
               {.name = "lora_path",
                .type = string,
                .doc = "PEFT's folder or llama.cpp's GGUF file on the server.",
                .required = true,
                .max_length = 4096},
               {.name = "base_model_name",
                .type = string,
                .doc = "The model that it is for, where several are served.",
                .max_length = 128}},
    .example = R"({"lora_name": "sql", "lora_path": "adapters/sql"})"};

const RequestSchema unload_adapter_schema = {
    .name = "UnloadLoraAdapterRequest",
    .fields = {{.name = "lora_name",
                .type = string,
                .doc = "A loaded adapter; requests under way keep it.",
                .required = true,
                .max_length = 128},
               {.name = "lora_int_id",
                .type = integer,
                .doc = "Accepted and not used.",
                .min = 0,
                .max = max_count}},
    .example = R"({"lora_name": "sql"})"};

const RequestSchema adapter_scales_schema = {.name = "LoraAdapterScales",
                                             .fields = {lora_field()},
                                             .example = R"([{"id": 0, "scale": 0.5}])",
                                             .list = "lora"};

const RequestSchema unload_schema = {
    .name = "UnloadRequest",
    .fields = {{.name = "name",
                .type = string,
                .doc = "A loaded model; requests under way are finished.",
                .required = true,
                .max_length = 128},
               {.name = "keep_name",
                .type = boolean,
                .doc = "Give back the memory alone: the next request loads the model again.",
                .fallback = "false"}},
    .example = R"({"name": "large"})"};

}  // namespace smelt
