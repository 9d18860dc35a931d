// POST /v1/rerank: how well each text answers a query, as Jina, Cohere, vLLM and llama.cpp have it; TEI's
// form too. The score is what a model that was asked gives to "yes" against "no", as Qwen3-Reranker is
// trained to.
#include <cmath>

#include "server/dialects/answer.h"
#include "server/dialects/make_job.h"
#include "server/dialects/openai_request.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

using enum FieldType;

constexpr size_t max_documents = 1024;
constexpr const char* judge =
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note "
    "that "
    "the answer can only be \"yes\" or \"no\".";
constexpr const char* usual_instruction =
    "Given a web search query, retrieve relevant passages that answer the query";

struct RerankWords {
    std::vector<std::string> documents = {};
    size_t top_n = 0;
    bool returns_documents = false, is_tei = false;
};

// Two answers a document, of one token: its log-probability where it is yes, and where it is no.
class RerankAnswer final : public Answer {
 public:
    RerankAnswer(Setup setup, RerankWords words) : Answer(std::move(setup)), words_(std::move(words)) {}

 private:
    bool keeps_tokens() const override { return true; }
    void more(int, const TextDelta&, const std::vector<TokenEvent>&) override {}
    void end() override {}
    void fail(const ApiError&) override {}

    double logprob(size_t index) const {
        const auto& tokens = choice(static_cast<int>(index)).tokens;
        return tokens.empty() ? -INFINITY : static_cast<double>(tokens.front().logprob);
    }

    Json whole() override {
        std::vector<std::pair<double, size_t>> scores;
        for (size_t i = 0; i < words_.documents.size(); ++i) {
            const double yes = logprob(2 * i), no = logprob(2 * i + 1);
            scores.emplace_back(1 / (1 + std::exp(no - yes)), i);
        }
        std::ranges::stable_sort(scores, std::ranges::greater(), [](const auto& s) { return s.first; });
        scores.resize(std::min(scores.size(), words_.top_n));
        Json results = Json::array();
        for (const auto& [score, index] : scores) {
            Json r = {{"index", index}, {words_.is_tei ? "score" : "relevance_score", score}};
            if (words_.returns_documents) {
                if (words_.is_tei) {
                    r["text"] = words_.documents[index];
                } else {
                    r["document"] = {{"text", words_.documents[index]}};
                }
            }
            results.push_back(std::move(r));
        }
        if (words_.is_tei) return results;
        // Each prompt was asked twice.
        const int n = usage().n_prompt / 2;
        Json body = {{"id", random_id("rerank-")},
                     {"object", "list"},
                     {"model", model()},
                     {"usage", {{"prompt_tokens", n}, {"total_tokens", n}}},
                     {"results", std::move(results)}};
        add_warnings(body);
        return body;
    }

    RerankWords words_;
};

int32_t one_token(const ChatModel& model, const char* word) {
    const std::vector<int32_t> ids = model.tokenizer().encode(word);
    if (ids.size() == 1) return ids.front();
    throw RequestError({.status = 501,
                        .code = "not_supported",
                        .message = "the model has no tokens for yes and no, so it cannot judge documents",
                        .param = "model"});
}

std::string text_of(const Json& document) {
    return document.is_string() ? document.get<std::string>() : document.at("text").get<std::string>();
}

void check_documents(const std::string& param, const Json& v) {
    if (!v.is_array()) wrong_type(param, "an array of texts", v);
    if (v.empty() || v.size() > max_documents)
        wrong_value(param, fmt::format("1 to {} texts", max_documents), v);
    for (size_t i = 0; i < v.size(); ++i) {
        const std::string at = fmt::format("{}[{}]", param, i);
        if (v[i].is_string()) continue;
        if (!v[i].is_object()) wrong_type(at, "a string, or an object with text", v[i]);
        need_string(at, v[i], "text");
    }
}

const CompoundType documents_type = {
    .description = "array of strings, or of objects with text",
    .check = check_documents,
    .openapi =
        R"({"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "object", "properties": {"text": {"type": "string"}}}]}})"};

}  // namespace

void rerank(Call& call) {
    const Json& body = call.body;
    const Json* documents = find_member(body, "documents");
    const Json* texts = find_member(body, "texts");
    if ((documents == nullptr) == (texts == nullptr)) {
        throw bad_request("missing_required_parameter", "documents", "expected either documents or texts");
    }
    RerankWords words{.is_tei = texts != nullptr};
    for (const Json& d : words.is_tei ? *texts : *documents) words.documents.push_back(text_of(d));
    words.top_n = get<size_t>(body, "top_n").value_or(words.documents.size());
    words.returns_documents =
        get<bool>(body, words.is_tei ? "return_text" : "return_documents").value_or(false);
    const std::string instruction = get<std::string>(body, "instruction").value_or(usual_instruction),
                      query = body.at("query"), name = get<std::string>(body, "model").value_or("");

    std::vector<JobSpec> jobs;
    for (const std::string& document : words.documents) {
        ChatRequest r{.model = name, .param = words.is_tei ? "texts" : "documents"};
        r.messages = {{.role = Role::system, .parts = {TextPart{judge}}},
                      {.role = Role::user,
                       .parts = {TextPart{fmt::format("<Instruct>: {}\n<Query>: {}\n<Document>: {}",
                                                      instruction, query, document)}}}};
        r.thinking = false;
        r.options.max_tokens = 1;
        r.options.n_logprobs = 0;
        JobSpec job = make_job(call.server, r, call.key, call.turn);
        const ChatModel& chat = job.model.chat();
        constexpr float surely = 1e6f;
        for (const char* word : {"yes", "no"}) {
            JobSpec one = job;
            one.options.sampling.temperature = 0;
            one.options.sampling.logit_bias = {{one_token(chat, word), surely}};
            jobs.push_back(std::move(one));
        }
    }
    jobs.front().warnings = std::move(call.warnings);
    start_answer<RerankAnswer>(call, std::move(jobs), false, ErrorStyle::openai, std::move(words));
}

const RequestSchema rerank_schema = {
    .name = "RerankRequest",
    .fields = {{.name = "model", .type = string, .doc = "As in the other dialects.", .max_length = 512},
               {.name = "query", .type = string, .doc = "What is looked for.", .required = true},
               {.name = "documents", .type = compound, .doc = "The texts.", .compound = &documents_type},
               {.name = "texts",
                .type = compound,
                .doc = "The texts, in the form of text-embeddings-inference; its answer is an array.",
                .compound = &documents_type},
               {.name = "top_n",
                .type = integer,
                .doc = "This many best texts. Default: all.",
                .min = 1,
                .max = std::numeric_limits<int32_t>::max()},
               {.name = "instruction",
                .type = string,
                .doc = "What makes a text a good one. Default: a web search."},
               {.name = "return_documents", .type = boolean, .doc = "With their texts.", .fallback = "false"},
               {.name = "return_text", .type = boolean, .doc = "The same for texts.", .fallback = "false"}},
    .example =
        R"({"query": "What is ripgrep?", "documents": ["ripgrep searches files.", "Paris is a city."]})"};

}  // namespace smelt
