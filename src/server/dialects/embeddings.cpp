// POST /v1/embeddings, and Ollama's /api/embed: a normalised vector for each text.
#include <bit>

#include "server/dialects/answer.h"
#include "server/dialects/make_job.h"
#include "server/dialects/ollama_request.h"
#include "server/dialects/openai_request.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

using Vectors = std::vector<std::vector<float>>;

struct EmbeddingRequest {
    std::vector<JobSpec> jobs;  // one a text
    std::string model = {};
    size_t dimensions = 0;  // leading values that are kept
};
using Words = std::function<Json(const Vectors&, const Usage&)>;

class EmbeddingAnswer final : public Answer {
 public:
    EmbeddingAnswer(Setup setup, size_t dimensions, Words words)
        : Answer(std::move(setup)), dimensions_(dimensions), words_(std::move(words)) {}

 private:
    void more(int, const TextDelta&, const std::vector<TokenEvent>&) override {}
    void end() override {}
    void fail(const ApiError&) override {}

    Json whole() override {
        Vectors vectors;
        for (size_t i = 0; i < n_choices(); ++i) {
            vectors.push_back(
                normalised(std::move(choice(static_cast<int>(i)).end.finish.embedding), dimensions_));
        }
        Json body = words_(vectors, usage());
        add_warnings(body);
        return body;
    }

    size_t dimensions_;
    Words words_;
};

EmbeddingRequest read_request(Call& call, const std::string& model_name, const char* param,
                              const Json& input) {
    const Json& body = call.body;
    ChatRequest asked{.model = model_name, .param = param};
    asked.options.max_tokens = 0;
    read_cache_salt(body, asked);
    bool several = false;
    const std::vector<PlainPrompt> texts = read_prompts(input, several);
    EmbeddingRequest request{.jobs = make_jobs(call.server, asked, texts, several, call.key, call.turn)};
    const ModelUse& model = request.jobs.front().model;
    request.model = model.name();
    const ChatModel& chat = model.chat();
    const auto dim = chat.model().config().dim;
    const int64_t dimensions = get<int64_t>(body, "dimensions").value_or(dim);
    if (dimensions > dim) {
        throw bad_request("invalid_value", "dimensions", "dimensions: the model has {}, found {}", dim,
                          dimensions);
    }
    request.dimensions = static_cast<size_t>(dimensions);
    // Of a value: itself, and in the answer.
    const bool base64 = get<std::string>(body, "encoding_format") == "base64";
    const size_t value_bytes = base64 ? 16 : 40;
    const auto pooling = get<std::string>(body, "pooling");
    for (JobSpec& job : request.jobs) {
        job.answer_bytes = static_cast<size_t>(dim) * value_bytes;
        job.options.pooling = !pooling             ? chat.default_pooling()
                              : *pooling == "last" ? Pooling::last
                                                   : Pooling::mean;
    }
    request.jobs.front().warnings = std::move(call.warnings);
    return request;
}

void start(const Call& call, EmbeddingRequest request, ErrorStyle errors, Words words) {
    start_answer<EmbeddingAnswer>(call, std::move(request.jobs), false, errors, request.dimensions,
                                  std::move(words));
}

// Little-endian floats, as OpenAI's clients read them.
std::string base64_floats(const std::vector<float>& values) {
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string bytes;
    for (const float value : values) {
        const auto bits = std::bit_cast<uint32_t>(value);
        for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(bits >> shift & 0xff);
    }
    std::string text;
    for (size_t i = 0; i < bytes.size(); i += 3) {
        uint32_t word = 0;
        for (size_t j = 0; j < 3; ++j) {
            word = word << 8 | (i + j < bytes.size() ? static_cast<unsigned char>(bytes[i + j]) : 0);
        }
        for (size_t j = 0; j < 4; ++j) text += i + j > bytes.size() ? '=' : digits[word >> (18 - 6 * j) & 63];
    }
    return text;
}

const Field dimensions_field = {.name = "dimensions",
                                .type = FieldType::integer,
                                .doc = "This many leading values, normalised again. Default: all.",
                                .min = 1,
                                .max = std::numeric_limits<int32_t>::max()};

std::string ollama_model(const Call& call) {
    return ollama_name(get<std::string>(call.body, "model").value_or(""));
}

void check_texts(const std::string& param, const Json& v) {
    if (v.is_string()) return;
    if (!v.is_array()) wrong_type(param, "a string or an array of strings", v);
    if (v.size() > max_texts) wrong_value(param, fmt::format("at most {} texts", max_texts), v);
    for (size_t i = 0; i < v.size(); ++i)
        check_string(fmt::format("{}[{}]", param, i), v[i], size_t{1} << 24);
}
const CompoundType texts_type = {
    .description = "string, or array of strings",
    .check = check_texts,
    .openapi = R"({"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]})"};

}  // namespace

const RequestSchema embedding_schema = {
    .name = "EmbeddingRequest",
    .fields =
        {{.name = "model", .type = FieldType::string, .doc = "A name of GET /v1/models.", .max_length = 512},
         {.name = "input",
          .type = FieldType::texts,
          .doc = "Text or token ids, or several of them.",
          .required = true},
         {.name = "encoding_format",
          .type = FieldType::string,
          .doc = "base64: of little-endian floats.",
          .fallback = "\"float\"",
          .choices = {"float", "base64"}},
         dimensions_field,
         {.name = "pooling",
          .type = FieldType::string,
          .doc = "Of the last hidden states: their mean, or that of the last token. Default: as the "
                 "model's file says, else mean.",
          .choices = {"mean", "last"}},
         {.name = "cache_salt",
          .type = FieldType::string,
          .doc = "As in chat completions.",
          .max_length = 256},
         {.name = "user", .type = FieldType::string, .doc = "Accepted and not used.", .max_length = 512}},
    .example = R"({"input": ["a text", "another"]})"};

const RequestSchema ollama_embeddings_schema = {
    .name = "OllamaEmbeddingsRequest",
    .fields =
        {{.name = "model", .type = FieldType::string, .doc = "A name of GET /api/tags.", .max_length = 512},
         {.name = "prompt", .type = FieldType::string, .doc = "What is embedded; empty: nothing."},
         {.name = "options",
          .type = FieldType::compound,
          .doc = "Accepted and not used.",
          .compound = &any_object},
         {.name = "keep_alive",
          .type = FieldType::compound,
          .doc = "Accepted and not used.",
          .compound = &ollama_keep_alive_type}},
    .example = R"({"prompt": "a text"})"};

const RequestSchema ollama_embed_schema = {
    .name = "OllamaEmbedRequest",
    .fields =
        {{.name = "model", .type = FieldType::string, .doc = "A name of GET /api/tags.", .max_length = 512},
         {.name = "input",
          .type = FieldType::compound,
          .doc = "What is embedded; nothing: the model is loaded.",
          .compound = &texts_type},
         {.name = "truncate",
          .type = FieldType::boolean,
          .doc = "Accepted; a text beyond the context is refused, never cut."},
         dimensions_field,
         {.name = "options",
          .type = FieldType::compound,
          .doc = "Accepted and not used.",
          .compound = &any_object},
         {.name = "keep_alive",
          .type = FieldType::compound,
          .doc = "Accepted and not used.",
          .compound = &ollama_keep_alive_type}},
    .example = R"({"input": ["a text", "another"]})"};

void embeddings(Call& call) {
    EmbeddingRequest request =
        read_request(call, get<std::string>(call.body, "model").value_or(""), "input", call.body["input"]);
    const bool base64 = get<std::string>(call.body, "encoding_format") == "base64";
    Words words = [base64, model = request.model](const Vectors& vectors, const Usage& usage) {
        Json data = Json::array();
        for (size_t i = 0; i < vectors.size(); ++i) {
            data.push_back({{"object", "embedding"},
                            {"index", i},
                            {"embedding", base64 ? Json(base64_floats(vectors[i])) : Json(vectors[i])}});
        }
        return Json{{"object", "list"},
                    {"data", std::move(data)},
                    {"model", model},
                    {"usage", {{"prompt_tokens", usage.n_prompt}, {"total_tokens", usage.n_prompt}}}};
    };
    start(call, std::move(request), ErrorStyle::openai, std::move(words));
}

namespace {

// Ollama answers nothing with nothing.
void answer_nothing(Call& call, Json body) {
    const ModelUse model = choose_model(call.server, {.model = ollama_model(call)}, call.key);
    body["model"] = model.name();
    call.exchange->send({.body = to_string(body)});
    ++call.server.metrics.received;
    ++call.server.metrics.accepted;
}

}  // namespace

void ollama_embed(Call& call) {
    const Json* given = find_member(call.body, "input");
    const Json input = given == nullptr ? Json("") : *given;
    if (input == "" || input.is_null() || (input.is_array() && input.empty())) {
        return answer_nothing(call, {{"embeddings", Json::array()}, {"prompt_eval_count", 0}});
    }
    EmbeddingRequest request = read_request(call, ollama_model(call), "input", input);
    Words words = [model = request.model](const Vectors& vectors, const Usage& usage) {
        return Json{{"model", model},
                    {"embeddings", vectors},
                    {"total_duration", static_cast<int64_t>(1e9 * (usage.queued + usage.prefill))},
                    {"load_duration", static_cast<int64_t>(1e9 * usage.queued)},
                    {"prompt_eval_count", usage.n_prompt}};
    };
    start(call, std::move(request), ErrorStyle::ollama, std::move(words));
}

void ollama_embeddings(Call& call) {
    const Json prompt = get<std::string>(call.body, "prompt").value_or("");
    if (prompt == "") return answer_nothing(call, {{"embedding", Json::array()}});
    Words words = [](const Vectors& vectors, const Usage&) { return Json{{"embedding", vectors.front()}}; };
    start(call, read_request(call, ollama_model(call), "prompt", prompt), ErrorStyle::ollama,
          std::move(words));
}

}  // namespace smelt
