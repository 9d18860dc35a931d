// The fields of every request. A field that is not here does not reach the engine.
#include "server/conversation.h"

namespace smelt {

namespace {

using enum FieldType;

constexpr int64_t max_count = std::numeric_limits<int32_t>::max();

const Field model_field = {
    .name = "model",
    .type = string,
    .doc = "A name of GET /v1/models, or auto. Default: the first model, or auto where several are served.",
    .max_length = 512};
const Field stream_field = {.name = "stream",
                            .type = boolean,
                            .doc = "Send the answer as server-sent events while it is made.",
                            .fallback = "false"};

// How tokens are drawn and when an answer ends; the same in every dialect.
std::vector<Field> sampling_fields() {
    return {
        {.name = "temperature",
         .type = number,
         .doc = "0: always the likeliest token. Default: the model's.",
         .min = 0,
         .max = 2},
        {.name = "top_p",
         .type = number,
         .doc = "Draw from the likeliest tokens with this probability together. Default: the model's.",
         .min = 0,
         .max = 1},
        {.name = "top_k",
         .type = integer,
         .doc = "Draw from this many likeliest tokens; 0 or -1: all. Default: the model's.",
         .min = -1,
         .max = max_count},
        {.name = "min_p",
         .type = number,
         .doc = "Leave out tokens below this part of the likeliest's probability. Default: the model's.",
         .min = 0,
         .max = 1},
        {.name = "seed", .type = integer, .doc = "Same seed, same answer."},
        {.name = "stop", .type = FieldType::stop, .doc = "The answer ends before the first of these."},
        {.name = "presence_penalty",
         .type = number,
         .doc = "Subtracted once from the logit of what the answer has.",
         .min = -2,
         .max = 2,
         .fallback = "0"},
        {.name = "frequency_penalty",
         .type = number,
         .doc = "Subtracted for each time the answer has it.",
         .min = -2,
         .max = 2,
         .fallback = "0"},
        {.name = "repetition_penalty",
         .type = number,
         .doc = "Divides the logits of what prompt and answer have; 1: none. Above 0.",
         .min = 0,
         .max = 10},
        {.name = "logit_bias", .type = FieldType::logit_bias, .doc = "Added to the logits of these tokens."},
        {.name = "n",
         .type = integer,
         .doc = "Answers; the prompt is computed once.",
         .min = 1,
         .max = 16,
         .fallback = "1"},
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
        {.name = "user", .type = string, .doc = "Accepted and not used.", .max_length = 512},
    };
}

std::vector<Field> join(std::vector<Field> a, const std::vector<Field>& b) {
    a.insert(a.end(), b.begin(), b.end());
    return a;
}

// What clients may send and smelt cannot do yet is refused, never silently ignored.
const std::vector<Field> constraint_fields = {
    {.name = "response_format",
     .type = unsupported,
     .doc = "Not supported yet, but for {\"type\": \"text\"}.",
     .choices = {"{\"type\":\"text\"}"}},
    {.name = "grammar", .type = unsupported, .doc = "Not supported yet."},
    {.name = "json_schema", .type = unsupported, .doc = "Not supported yet."},
    {.name = "structured_outputs", .type = unsupported, .doc = "Not supported yet."},
};
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
     .doc = "false: the answer ends behind its first call.",
     .fallback = "true"},
    {.name = "functions", .type = unsupported, .doc = "Not supported."},
    {.name = "function_call",
     .type = unsupported,
     .doc = "Not supported.",
     .choices = {"\"none\"", "\"auto\""}},
    {.name = "chat_template",
     .type = unsupported,
     .doc = "Templates come with the model, never with a request."},
};

}  // namespace

const RequestSchema chat_schema = {
    .name = "ChatCompletionRequest",
    .fields = join(join({model_field,
                         {.name = "messages",
                          .type = messages,
                          .doc = "The conversation: text, or arrays of text parts.",
                          .required = true},
                         {.name = "max_completion_tokens",
                          .type = integer,
                          .doc = "Tokens of the answer at most. Default: until the context is full.",
                          .min = 1,
                          .max = max_count},
                         {.name = "max_tokens",
                          .type = integer,
                          .doc = "The older name of max_completion_tokens.",
                          .min = 1,
                          .max = max_count},
                         stream_field,
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
                         {.name = "chat_template_kwargs",
                          .type = template_kwargs,
                          .doc = "Variables for the model's template, such as enable_thinking."},
                         {.name = "reasoning_effort",
                          .type = string,
                          .doc = "none turns thinking off; the others are for the template.",
                          .choices = {"none", "minimal", "low", "medium", "high", "xhigh"}}},
                        sampling_fields()),
                   join(tool_fields, constraint_fields)),
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
          .doc = "Tokens of the answer at most; 0: none.",
          .min = 0,
          .max = max_count,
          .fallback = "16"},
         stream_field,
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
         {.name = "best_of", .type = unsupported, .doc = "Not supported, but for 1.", .choices = {"1"}},
         {.name = "suffix", .type = unsupported, .doc = "Not supported.", .choices = {"\"\""}}},
        join(sampling_fields(), constraint_fields)),
    .example = R"({"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0})"};

const RequestSchema generate_schema = {
    .name = "GenerateRequest",
    .fields =
        join({model_field,
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
               .doc = "Tokens of the answer at most. More than 200 and model auto: the most efficient model.",
               .min = 0,
               .max = max_count,
               .fallback = "100"},
              stream_field,
              {.name = "chat_template_kwargs",
               .type = template_kwargs,
               .doc = "Variables for the model's template, such as enable_thinking."}},
             join(sampling_fields(), constraint_fields)),
    .example = R"({"prompt": "What is 12 + 30?", "max_tokens": 50, "priority": "speed"})"};

const RequestSchema tokenize_schema = {
    .name = "TokenizeRequest",
    .fields = {model_field,
               {.name = "content", .type = string, .doc = "Text. Either this or messages."},
               {.name = "messages",
                .type = messages,
                .doc = "A conversation; the model's template is applied."},
               tools_field,
               {.name = "add_special",
                .type = boolean,
                .doc = "With the tokens that the vocabulary puts around a text.",
                .fallback = "false"},
               {.name = "with_pieces",
                .type = boolean,
                .doc = "The text of each token as well.",
                .fallback = "false"}},
    .example = R"({"content": "Hello world", "with_pieces": true})"};

const RequestSchema detokenize_schema = {
    .name = "DetokenizeRequest",
    .fields = {model_field, {.name = "tokens", .type = token_ids, .doc = "Token ids.", .required = true}},
    .example = R"({"tokens": [100, 200, 300]})"};

const RequestSchema template_schema = {
    .name = "ApplyTemplateRequest",
    .fields = {model_field,
               {.name = "messages", .type = messages, .doc = "The conversation.", .required = true},
               tools_field,
               {.name = "chat_template_kwargs",
                .type = template_kwargs,
                .doc = "Variables for the template."},
               {.name = "add_generation_prompt",
                .type = boolean,
                .doc = "End with the beginning of an answer.",
                .fallback = "true"}},
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

const RequestSchema unload_schema = {.name = "UnloadRequest",
                                     .fields = {{.name = "name",
                                                 .type = string,
                                                 .doc = "A loaded model; requests under way are finished.",
                                                 .required = true,
                                                 .max_length = 128}},
                                     .example = R"({"name": "large"})"};

}  // namespace smelt
