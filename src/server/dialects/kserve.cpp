// POST /v2/models/NAME/infer, /generate and /generate_stream: whole answers as tensors, or events.
#include "server/dialects/kserve.h"

#include "server/dialects/answer.h"
#include "server/dialects/kserve_task.h"

namespace smelt {

namespace {

class KserveAnswer : public Answer {
 public:
    KserveAnswer(Setup setup, KserveQuestion question)
        : Answer(std::move(setup)), question_(std::move(question)) {}

 protected:
    void more(int, const TextDelta& text, const std::vector<TokenEvent>&) override {
        if (question_.streams == false) return;
        const std::string piece = kserve_text(question_, text.thinking, text.answer);
        if (piece.empty()) return;
        Json event = head_json();
        event["text_output"] = (first_ ? prefix(0) : "") + piece;
        first_ = false;
        write(sse(event));
    }
    void end() override {
        const bool is_whole = question_.streams == false;
        Json event = generated(is_whole ? row(0).text : first_ ? prefix(0) : "");
        add_warnings(event);
        write(sse(event));
    }
    void fail(const ApiError& error) override { write(sse(error_body(error, ErrorStyle::kserve))); }

    // Of /generate.
    Json whole() override {
        Json body = generated(row(0).text);
        add_warnings(body);
        return body;
    }

    Json head_json() const {
        Json body = Json::object();
        if (!question_.id.empty()) body["id"] = question_.id;
        body["model_name"] = model();
        body["model_version"] = kserve_version;
        return body;
    }

    KserveRow row(size_t i) const {
        const Choice& c = choice(static_cast<int>(i));
        return {.text = prefix(i) + kserve_text(question_, c.thinking, c.text),
                .finish_reason = c.end.reason,
                .n_input = c.end.finish.n_prompt,
                .n_output = c.end.finish.n_generated};
    }

    const KserveQuestion& question() const { return question_; }

 private:
    std::string prefix(size_t i) const { return question_.repeats_input ? question_.texts[i] : ""; }
    Json generated(const std::string& text) const {
        const KserveRow r = row(0);
        Json body = head_json();
        body["text_output"] = text;
        body["finish_reason"] = r.finish_reason;
        body["num_input_tokens"] = r.n_input;
        body["num_output_tokens"] = r.n_output;
        return body;
    }

    KserveQuestion question_;
    bool first_ = true;  // no piece was sent
};

class KserveTensorAnswer final : public KserveAnswer {
 public:
    using KserveAnswer::KserveAnswer;

 private:
    HttpAnswer whole_answer() override {
        std::vector<KserveRow> rows;
        for (size_t i = 0; i < n_choices(); ++i) rows.push_back(row(i));
        Json body = head_json(), outputs = Json::array();
        std::string binary;
        for (const KserveQuestion::Output& o : question().outputs) {
            const KserveTensor t = kserve_output(o.name, question().shape, rows);
            Json output = {{"name", t.name}, {"datatype", t.datatype}, {"shape", t.shape}};
            if (o.binary) {
                const std::string bytes = encode_kserve_data(t);
                output["parameters"] = {{"binary_data_size", bytes.size()}};
                binary += bytes;
            } else {
                output["data"] = t.data;
            }
            outputs.push_back(std::move(output));
        }
        // The protocol has no arrays among parameters.
        Json warnings;
        add_warnings(warnings);
        if (!warnings.is_null()) {
            std::string text;
            for (const Json& w : warnings["warnings"])
                text += (text.empty() ? "" : "; ") + w.get<std::string>();
            body["parameters"] = {{"warnings", text}};
        }
        body["outputs"] = std::move(outputs);
        HttpAnswer answer{.body = to_string(body)};
        if (binary.empty()) return answer;
        answer.type = "application/octet-stream";
        answer.headers.emplace_back("inference-header-content-length", std::to_string(answer.body.size()));
        answer.body += binary;
        return answer;
    }
};

template <class A>
void start_kserve(Call& call, KserveQuestion q, bool stream) {
    q.request.model = call.name;
    q.request.warnings = std::move(call.warnings);
    std::vector<JobSpec> jobs = kserve_jobs(call.server, q, call.key, call.turn);
    start_answer<A>(call, std::move(jobs), stream, ErrorStyle::kserve, std::move(q));
}

void refuse_stream(const KserveQuestion& q, const char* who) {
    if (q.streams != true) return;
    throw bad_request("not_supported", "stream", "stream: {} gives one response; generate_stream streams",
                      who);
}

}  // namespace

void check_kserve_version(const Call& call) {
    constexpr std::string_view versions = "/versions/";
    const size_t at = call.request.path.find(versions);
    if (at == std::string::npos) return;
    const size_t start = at + versions.size();
    check_kserve_version(call.name,
                         call.request.path.substr(start, call.request.path.find('/', start) - start));
}

void check_kserve_version(const std::string& model, const std::string& version) {
    if (version.empty() || version == kserve_version) return;
    throw RequestError({.status = 404,
                        .code = "model_not_found",
                        .message = fmt::format("{} has version {}, and none {}", model, kserve_version,
                                               version.substr(0, 40)),
                        .param = "version"});
}

void kserve_infer(Call& call) {
    check_kserve_version(call);
    KserveQuestion q = read_kserve_infer(call.body, call.binary, {call.server.strict, call.warnings});
    refuse_stream(q, "infer");
    start_kserve<KserveTensorAnswer>(call, std::move(q), false);
}

void kserve_generate(Call& call) {
    check_kserve_version(call);
    KserveQuestion q = read_kserve_generate(call.body, {call.server.strict, call.warnings});
    refuse_stream(q, "generate");
    start_kserve<KserveAnswer>(call, std::move(q), false);
}

void kserve_generate_stream(Call& call) {
    check_kserve_version(call);
    KserveQuestion q = read_kserve_generate(call.body, {call.server.strict, call.warnings});
    start_kserve<KserveAnswer>(call, std::move(q), true);
}

}  // namespace smelt
