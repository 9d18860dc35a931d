// A line is a text, a request to /generate or to /v1/chat/completions, or one of OpenAI's batch files, whose
// "body" is such a request.
#include "apps/run_batch.h"

#include <fmt/format.h>

#include <deque>
#include <fstream>
#include <map>

#include "apps/progress.h"
#include "apps/terminal.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "server/api_error.h"
#include "server/dialects/openai_request.h"

namespace smelt {

namespace {

constexpr int max_seqs = 32;
constexpr size_t max_under_way = 2 * max_seqs;  // so that some wait whenever one ends

struct Question {
    size_t index = 0;
    std::string line = {};
};

// FNV-1a: answers belong to questions by it, so that a file that was changed is seen.
std::string hash_of(const std::string& line) {
    uint64_t h = 0xcbf29ce484222325;
    for (const char c : line) h = (h ^ static_cast<unsigned char>(c)) * 0x100000001b3;
    return fmt::format("{:016x}", h);
}

std::vector<Question> read_questions(const std::string& path) {
    std::vector<Question> questions;
    const MappedFile file(path);
    std::string_view rest = file.text();
    for (size_t index = 0; !rest.empty();) {
        const size_t end = std::min(rest.find('\n'), rest.size());
        const std::string line(rest.substr(0, end));
        if (line.find_first_not_of(" \t\r") != std::string::npos) questions.push_back({index++, line});
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    if (questions.empty()) throw Error("{}: expected a question a line, found none", path);
    return questions;
}

// Questions that a file of answers does not answer yet. A last line without an end, of a run that was killed,
// is taken off it.
void leave_out_answered(const std::string& input, const std::string& output,
                        std::vector<Question>& questions) {
    if (!std::filesystem::exists(output)) return;
    std::map<size_t, std::string> answered;
    {
        const MappedFile file(output);
        std::string_view rest = file.text();
        size_t n_whole = 0;
        for (size_t end = 0; (end = rest.find('\n', n_whole)) != std::string_view::npos; n_whole = end + 1) {
            const std::string_view line = rest.substr(n_whole, end - n_whole);
            if (line.empty()) continue;
            const Json answer = parse_json(line, output);
            const bool is_ours =
                answer.is_object() && answer.contains("index") && answer.contains("question");
            if (!is_ours) throw Error("{}: expected answers of smelt run --batch", output);
            if (!answer.contains("error")) answered[answer.at("index")] = answer.at("question");
        }
        if (n_whole < rest.size()) std::filesystem::resize_file(output, n_whole);
    }
    std::erase_if(questions, [&](const Question& q) {
        const auto known = answered.find(q.index);
        if (known == answered.end()) return false;
        if (known->second == hash_of(q.line)) return true;
        throw Error("{}: has an answer to another question {} than {}; another --output begins anew", output,
                    q.index, input);
    });
    if (!answered.empty()) spdlog::info("{}: {} answers are there already", output, answered.size());
}

// What the line does not say is the command line's.
ChatRequest read_request(Json body, const RunOptions& run) {
    if (body.is_string()) body = {{"prompt", body}};
    if (!body.is_object()) throw Error("expected a text or an object, found {}", body.type_name());
    const bool is_chat = body.contains("messages");
    check_body(body, is_chat ? chat_schema : generate_schema, true);
    ChatRequest r = is_chat ? read_chat_request(body) : read_question(body, run.request.options.max_tokens);
    const ChatRequest& given = run.request;
    SamplingChanges sampling = given.sampling;
    sampling.update(r.sampling);
    r.sampling = sampling;
    if (!r.thinking) r.thinking = given.thinking;
    if (!r.bound) r.bound = given.bound;
    if (!r.dry_breakers) r.dry_breakers = given.dry_breakers;
    GenerateOptions& o = r.options;
    const GenerateOptions& g = given.options;
    if (o.max_tokens < 0) o.max_tokens = g.max_tokens;
    if (o.thinking_budget < 0) o.thinking_budget = g.thinking_budget;
    if (!o.sampling.seed) o.sampling.seed = g.sampling.seed;
    if (o.stop.empty()) o.stop = g.stop;
    if (o.best_of == 0) o.best_of = g.best_of;
    if (o.beams.width == 0) o.beams = g.beams;
    if (run.raw && !r.plain) {
        if (is_chat) throw Error("messages: expected a prompt with --raw");
        r.plain = r.messages.back().text();
    }
    return r;
}

class BatchRun {
 public:
    BatchRun(const std::string& model, const RunOptions& run, const BatchOptions& batch)
        : run_(run), out_(stdout) {
        questions_ = read_questions(batch.input);
        if (!batch.output.empty()) {
            leave_out_answered(batch.input, batch.output, questions_);
            out_ = std::fopen(batch.output.c_str(), "a");
            if (out_ == nullptr) throw Error("{}: cannot be written", batch.output);
        }
        if (questions_.empty()) return;
        ChatModelOptions open = open_options(run);
        constexpr int64_t usual_tokens = 16384;
        open.kv_tokens = std::max(open.kv_tokens, usual_tokens);
        open.engine.scheduler.max_seqs = max_seqs;
        if (run.system) open.system = *run.system;
        model_ = ChatModel::open(model, open);
        adapters_ = load_adapters(*model_, open.adapters);
    }
    ~BatchRun() {
        if (out_ != stdout) std::fclose(out_);
    }
    BatchRun(const BatchRun&) = delete;
    BatchRun& operator=(const BatchRun&) = delete;

    void work() {
        const InterruptGuard guard;
        InterruptGuard::take();
        size_t next = 0;
        while (next < questions_.size() || !under_way_.empty()) {
            while (next < questions_.size() && under_way_.size() < max_under_way) start(questions_[next++]);
            if (!finish_first()) throw CLI::RuntimeError(130);
        }
        spdlog::info("{} answers, {} of them errors", questions_.size(), n_failed_);
        if (n_failed_ > 0)
            throw Error("{} of {} lines failed; their lines say why", n_failed_, questions_.size());
    }

 private:
    struct Answer {
        Json head;
        std::unique_ptr<Generation> generation;  // null: it failed
        std::string error;
    };

    void start(const Question& q) {
        Answer a{
            .head = {{"index", q.index}, {"question", hash_of(q.line)}}, .generation = nullptr, .error = {}};
        try {
            Json body = parse_json(q.line, "the line");
            for (const char* name : {"custom_id", "id"}) {
                if (!body.is_object() || !body.contains(name)) continue;
                a.head["id"] = body[name];
                body.erase(name);
            }
            if (body.is_object() && body.contains("body")) body = Json(body["body"]);
            const ChatRequest request = read_request(std::move(body), run_);
            const Prompt prompt = make_prompt(*model_, request);
            GenerateOptions options = generate_options(*model_, request, prompt);
            options.adapters = adapters_;
            if (options.n > 1) throw Error("n: expected 1 in a batch, found {}", options.n);
            a.generation = model_->generate(prompt, options);
        } catch (const RequestError& e) {
            a.error = e.error.message;
        } catch (const Error& e) {
            a.error = e.what();
        }
        under_way_.push_back(std::move(a));
    }

    // False: Ctrl-C.
    bool finish_first() {
        Answer a = std::move(under_way_.front());
        under_way_.pop_front();
        Json line = std::move(a.head);
        try {
            if (a.generation == nullptr) throw Error("{}", a.error);
            std::string text, thinking;
            while (const auto delta = a.generation->next()) {
                if (InterruptGuard::take()) return false;
                text += delta->answer;
                thinking += delta->thinking;
            }
            const FinishEvent& f = a.generation->finish();
            line.update({{"answer", text},
                         {"thinking", thinking},
                         {"finish_reason", a.generation->finish_reason()},
                         {"usage", {{"prompt_tokens", f.n_prompt}, {"completion_tokens", f.n_generated}}}});
        } catch (const Error& e) {
            line["error"] = e.what();
            ++n_failed_;
        }
        fmt::print(out_, "{}\n", to_string(line));
        if (std::fflush(out_) != 0) throw Error("the answers cannot be written");
        return !InterruptGuard::take();
    }

    const RunOptions& run_;
    std::FILE* out_;
    std::vector<Question> questions_;
    std::vector<AdapterUse> adapters_;
    std::unique_ptr<ChatModel> model_;
    std::deque<Answer> under_way_;
    size_t n_failed_ = 0;
};

}  // namespace

void run_batch(const std::string& model, const RunOptions& run, const BatchOptions& batch) {
    BatchRun(model, run, batch).work();
}

}  // namespace smelt
