// POST /v1/embeddings, and Ollama's /api/embed: a normalised vector for each text.
#include "server/dialects/ollama_request.h"
#include "server/dialects/read_request.h"
#include "server/dialects/schema_checks.h"
#include "server/routes.h"

namespace smelt {

namespace {

using Vectors = std::vector<std::vector<float>>;

struct EmbeddingRequest {
    std::vector<JobSpec> jobs;  // one a text
    std::string model = {};
    size_t dimensions = 0;  // leading values that are kept
    ErrorStyle errors = ErrorStyle::openai;
    std::function<Json(const Vectors&, const Usage&)> body = {};
};

class EmbeddingAnswer final : public JobListener, public std::enable_shared_from_this<EmbeddingAnswer> {
 public:
    EmbeddingAnswer(ServerContext& server, std::shared_ptr<Exchange> exchange, EmbeddingRequest request)
        : server_(server),
          exchange_(std::move(exchange)),
          request_(std::move(request)),
          vectors_(request_.jobs.size()) {}

    void start() {
        const auto post = [exchange = exchange_](std::function<void()> work) {
            exchange->post(std::move(work));
        };
        try {
            for (JobSpec& spec : request_.jobs) {
                spec.first_index = static_cast<int>(jobs_.size());
                jobs_.push_back(Job::start(std::move(spec), post, shared_from_this()));
                ++server_.metrics.received;
                ++server_.metrics.accepted;
            }
        } catch (...) {
            lose();
            throw;
        }
        exchange_->on_loss([weak = weak_from_this()](Loss) {
            if (const auto self = weak.lock()) self->lose();
        });
    }

    void piece(int, TextDelta, std::vector<TokenEvent>) override {}
    void ended(const AnswerEnd& end) override {
        FinishEvent f = end.finish;
        f.index = 0;  // each text is a prompt of its own
        usage_.add(f);
        if (end.reason == "error") error_ = failure_error(f);
        if (end.reason == "cancelled") {
            error_ = ApiError{
                .status = 503, .code = "shutting_down", .message = "the server ends", .retry_after = 5};
        }
        vectors_[static_cast<size_t>(end.index)] = f.embedding;
        if (++n_ended_ < vectors_.size()) return;
        jobs_.clear();
        if (lost_) return;
        if (error_) return exchange_->send(error_answer(*error_, request_.errors));
        for (std::vector<float>& v : vectors_) v = normalised(std::move(v), request_.dimensions);
        exchange_->send({.body = to_string(request_.body(vectors_, usage_))});
    }
    void broken() override {
        lost_ = true;
        exchange_->abandon();
    }

 private:
    void lose() {
        lost_ = true;
        for (const auto& job : jobs_) job->cancel();
    }

    ServerContext& server_;
    std::shared_ptr<Exchange> exchange_;
    EmbeddingRequest request_;
    std::vector<std::shared_ptr<Job>> jobs_;
    Vectors vectors_;
    Usage usage_;
    size_t n_ended_ = 0;
    bool lost_ = false;
    std::optional<ApiError> error_;
};

EmbeddingRequest read_request(const Call& call, const std::string& model_name, const Json& input) {
    const Json& body = call.body;
    const ModelUse model = call.server.models.choose({.name = model_name, .max_tokens = 0, .key = call.key});
    const ChatModel& chat = model.chat();
    EmbeddingRequest request{.jobs = {}, .model = model.name()};
    const auto dim = chat.model().config().dim;
    const int64_t dimensions = get<int64_t>(body, "dimensions").value_or(dim);
    if (dimensions > dim) {
        throw bad_request("invalid_value", "dimensions", "dimensions: the model has {}, found {}", dim,
                          dimensions);
    }
    request.dimensions = static_cast<size_t>(dimensions);
    const auto pooling = get<std::string>(body, "pooling");

    const bool several = input.is_array() && !input[0].is_number();
    const Json texts = several ? input : Json::array({input});
    for (size_t i = 0; i < texts.size(); ++i) {
        const std::string param = several ? fmt::format("input[{}]", i) : "input";
        JobSpec job{.model = model, .prompt = make_plain_prompt(chat, texts[i], param), .options = {}};
        job.options.max_tokens = 0;
        job.options.split_thinking = false;
        job.options.cache_salt = read_cache_salt(body, call.server.shared_prefix_cache ? "" : call.key);
        job.options.pooling = !pooling             ? chat.default_pooling()
                              : *pooling == "last" ? Pooling::last
                                                   : Pooling::mean;
        check_fits(chat, job.prompt, param);
        request.jobs.push_back(std::move(job));
    }
    return request;
}

void start(const Call& call, EmbeddingRequest request) {
    const ErrorStyle errors = request.errors;
    const auto answer = std::make_shared<EmbeddingAnswer>(call.server, call.exchange, std::move(request));
    call.exchange->post([&server = call.server, exchange = call.exchange, answer, errors] {
        answer_errors(
            server, *exchange, true, [&] { answer->start(); }, errors);
    });
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

void check_texts(const std::string& param, const Json& v) {
    if (v.is_string()) return;
    if (!v.is_array()) wrong_type(param, "a string or an array of strings", v);
    if (v.empty() || v.size() > max_prompts) wrong_value(param, fmt::format("1 to {} texts", max_prompts), v);
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
          .type = FieldType::prompt,
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

const RequestSchema ollama_embed_schema = {
    .name = "OllamaEmbedRequest",
    .fields =
        {{.name = "model", .type = FieldType::string, .doc = "A name of GET /api/tags.", .max_length = 512},
         {.name = "input",
          .type = FieldType::compound,
          .doc = "What is embedded.",
          .required = true,
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
        read_request(call, get<std::string>(call.body, "model").value_or(""), call.body["input"]);
    const bool base64 = get<std::string>(call.body, "encoding_format") == "base64";
    request.body = [base64, model = request.model](const Vectors& vectors, const Usage& usage) {
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
    start(call, std::move(request));
}

void ollama_embed(Call& call) {
    EmbeddingRequest request = read_request(
        call, ollama_name(get<std::string>(call.body, "model").value_or("")), call.body["input"]);
    request.errors = ErrorStyle::ollama;
    request.body = [model = request.model](const Vectors& vectors, const Usage& usage) {
        return Json{{"model", model},
                    {"embeddings", vectors},
                    {"total_duration", static_cast<int64_t>(1e9 * (usage.queued + usage.prefill))},
                    {"load_duration", static_cast<int64_t>(1e9 * usage.queued)},
                    {"prompt_eval_count", usage.n_prompt}};
    };
    start(call, std::move(request));
}

}  // namespace smelt
