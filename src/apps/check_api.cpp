// smelt check-api: whether a running server answers as the model does: the same tokens, and how likely each
// was. Exit code 3 where it does not.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "apps/device_options.h"
#include "apps/hub_model.h"
#include "apps/streamed_answer.h"
#include "apps/values.h"
#include "apps/verbs.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "chat/chat_model.h"

namespace smelt {

namespace {

struct CheckOptions {
    std::string url, model, served_model, key, record, against;
    std::vector<std::string> questions = {"What is 12 + 30?", "What is an operating system?",
                                          "Name three colours.", "What does tar do?",
                                          "Write one sentence about the sea."};
    int n_tokens = 32, n_top = 5;
    double tolerance = 0.1;
    bool json = false;
    DeviceOptions device;
};

struct Token {
    std::string text = {};  // bytes
    double logprob = 0;
    std::vector<std::pair<std::string, double>> top = {};  // the best
};
struct Answer {
    std::string question = {};
    std::vector<Token> tokens = {};
};

// "bytes" where there are: a token may be a part of a character.
std::string bytes_of(const Json& entry) {
    const auto bytes = entry.find("bytes");
    if (bytes == entry.end() || !bytes->is_array()) return entry.at("token");
    std::string text;
    for (const Json& b : *bytes) text += static_cast<char>(b.get<int>());
    return text;
}

Json to_json(const std::string& bytes, double logprob) {
    Json list = Json::array();
    for (const char c : bytes) list.push_back(static_cast<unsigned char>(c));
    return {{"token", parse_json(to_string(Json(bytes)), "a token")},
            {"logprob", logprob},
            {"bytes", std::move(list)}};
}

Json to_json(const std::vector<Answer>& answers) {
    Json list = Json::array();
    for (const Answer& a : answers) {
        Json tokens = Json::array();
        for (const Token& t : a.tokens) {
            Json token = to_json(t.text, t.logprob);
            token["top_logprobs"] = Json::array();
            for (const auto& [text, logprob] : t.top) token["top_logprobs"].push_back(to_json(text, logprob));
            tokens.push_back(std::move(token));
        }
        list.push_back({{"question", a.question}, {"tokens", std::move(tokens)}});
    }
    return list;
}

std::vector<Token> read_tokens(const Json& list) {
    std::vector<Token> tokens;
    for (const Json& entry : list) {
        Token& t = tokens.emplace_back(Token{bytes_of(entry), entry.at("logprob")});
        for (const Json& top : entry.value("top_logprobs", Json::array()))
            t.top.emplace_back(bytes_of(top), top.at("logprob").get<double>());
    }
    return tokens;
}

std::vector<Answer> read_recorded(const std::string& path) {
    const Json file = parse_json(MappedFile(path).text(), path);
    try {
        std::vector<Answer> answers;
        for (const Json& a : file.at("answers"))
            answers.push_back({a.at("question"), read_tokens(a.at("tokens"))});
        return answers;
    } catch (const Json::exception& e) {
        throw Error("{}: expected what check-api --record writes: {}", path, e.what());
    }
}

std::vector<Answer> ask_running(const CheckOptions& o, const std::vector<std::string>& questions) {
    const ServerAddress address = parse_server_address(o.url);
    const std::string model = o.served_model.empty() ? first_model(address, o.key) : o.served_model;
    std::vector<Answer> answers;
    for (const std::string& question : questions) {
        const Json body = {
            {"model", model},           {"messages", {{{"role", "user"}, {"content", question}}}},
            {"max_tokens", o.n_tokens}, {"temperature", 0},
            {"logprobs", true},         {"top_logprobs", o.n_top}};
        const ServerAnswer answer =
            ask_server(address, "POST", "/v1/chat/completions", to_string(body), o.key);
        if (answer.status != 200) throw Error("{}: status {}: {}", o.url, answer.status, answer.body);
        const Json json = parse_json(answer.body, o.url);
        try {
            answers.push_back({question, read_tokens(json.at("choices").at(0).at("logprobs").at("content"))});
        } catch (const Json::exception& e) {
            throw Error("{}: expected an answer with log-probabilities, found another: {}", o.url, e.what());
        }
    }
    return answers;
}

std::vector<Answer> compute(const CheckOptions& o, const std::vector<std::string>& questions) {
    ChatModelOptions options;
    options.device = o.device.name();
    options.backend = o.device.backend();
    options.rope_scaling = o.device.rope_scaling;
    options.n_ctx = 1024;
    const auto model = ChatModel::open(local_model(o.model), options);
    const auto bytes = [&](int32_t id) { return std::string(model->tokenizer().token_bytes(id)); };
    std::vector<Answer> answers;
    for (const std::string& question : questions) {
        GenerateOptions g;
        g.max_tokens = o.n_tokens;
        g.n_logprobs = o.n_top;
        g.sampling.temperature = 0;
        const auto prompt = model->make_prompt(Json::array({{{"role", "user"}, {"content", question}}}));
        const auto generation = model->generate(prompt, g);
        Answer a{.question = question};
        while (generation->next()) {
            for (const TokenEvent& t : generation->tokens()) {
                Token& token = a.tokens.emplace_back(Token{bytes(t.id), t.logprob});
                for (const TokenLogprob& top : t.top) token.top.emplace_back(bytes(top.id), top.logprob);
            }
        }
        generation->finish();
        answers.push_back(std::move(a));
    }
    return answers;
}

struct Verdict {
    size_t n_same = 0, n_expected = 0, n_found = 0;  // tokens until the first other one
    double mean = 0, worst = 0;                      // difference of log-probabilities of those
    std::optional<double>
        gap;  // where they part: how much less likely the server's token was; none: not known
    bool agrees = false;
};

Verdict judge(const Answer& expected, const Answer& found, double tolerance) {
    Verdict v;
    v.n_expected = expected.tokens.size();
    v.n_found = found.tokens.size();
    double sum = 0;
    for (; v.n_same < std::min(v.n_expected, v.n_found); ++v.n_same) {
        const Token &e = expected.tokens[v.n_same], &f = found.tokens[v.n_same];
        if (e.text != f.text) {
            const auto near = std::ranges::find(e.top, f.text, &std::pair<std::string, double>::first);
            if (near != e.top.end()) v.gap = e.logprob - near->second;
            break;
        }
        const double difference = std::abs(e.logprob - f.logprob);
        sum += difference;
        v.worst = std::max(v.worst, difference);
    }
    v.mean = v.n_same > 0 ? sum / static_cast<double>(v.n_same) : 0;
    const bool whole = v.n_same == v.n_expected && v.n_same == v.n_found;
    // Two tokens that are as likely as each other may change places.
    const bool near_tie = v.gap && *v.gap <= 2 * tolerance;
    v.agrees = v.mean <= tolerance && (whole || near_tie);
    return v;
}

int report(const CheckOptions& o, const std::vector<Answer>& expected, const std::vector<Answer>& found) {
    Json list = Json::array();
    int n_agree = 0;
    if (!o.json)
        fmt::print("{:<8} {:>11} {:>10} {:>10}  {}\n", "", "same tokens", "mean diff.", "worst", "question");
    for (size_t i = 0; i < expected.size(); ++i) {
        const Verdict v = judge(expected[i], found[i], o.tolerance);
        n_agree += v.agrees ? 1 : 0;
        list.push_back({{"question", expected[i].question},
                        {"agrees", v.agrees},
                        {"same_tokens", v.n_same},
                        {"expected_tokens", v.n_expected},
                        {"found_tokens", v.n_found},
                        {"mean_logprob_difference", v.mean},
                        {"worst_logprob_difference", v.worst},
                        {"gap_at_first_other_token", v.gap ? Json(*v.gap) : Json()}});
        if (!o.json) {
            fmt::print("{:<8} {:>5} of {:<2} {:>10.4f} {:>10.4f}  {}\n", v.agrees ? "agrees" : "differs",
                       v.n_same, std::max(v.n_expected, v.n_found), v.mean, v.worst, expected[i].question);
        }
    }
    const bool all = n_agree == static_cast<int>(expected.size());
    if (o.json) {
        fmt::print("{}\n", Json{{"url", o.url},
                                {"against", o.against.empty() ? o.model : o.against},
                                {"tolerance", o.tolerance},
                                {"agrees", all},
                                {"answers", std::move(list)}}
                               .dump(2));
    } else {
        fmt::print("{} of {} answers agree; natural logarithms, tolerance {}\n", n_agree, expected.size(),
                   o.tolerance);
    }
    return all ? 0 : 3;
}

void check(const CheckOptions& o) {
    if (!o.model.empty() && !o.against.empty())
        throw CLI::ValidationError("check-api", "give a MODEL or --against, not both");
    if (o.model.empty() && o.against.empty() && o.record.empty())
        throw CLI::ValidationError("check-api", "give a MODEL, or --against FILE, or --record FILE");
    std::vector<Answer> expected;
    std::vector<std::string> questions = o.questions;
    if (!o.against.empty()) {
        expected = read_recorded(o.against);
        questions.clear();
        for (const Answer& a : expected) questions.push_back(a.question);
    }
    const std::vector<Answer> found = ask_running(o, questions);
    if (!o.record.empty()) {
        AtomicFile file(o.record);
        file.write(Json{{"url", o.url}, {"answers", to_json(found)}}.dump(1) + "\n");
        file.commit();
    }
    if (!o.model.empty()) expected = compute(o, questions);
    if (expected.empty()) return fmt::print("{}: {} answers\n", o.record, found.size());
    const int status = report(o, expected, found);
    if (status != 0) throw CLI::RuntimeError(status);
}

}  // namespace

Verb add_check_api(CLI::App& smelt) {
    auto o = std::make_shared<CheckOptions>();
    CLI::App* verb =
        smelt.add_subcommand("check-api", "Whether a running server answers as the model computes it");
    const auto group = [verb](const char* name) { verb->option_defaults()->group(name); };
    group("The server");
    verb->add_option("URL", o->url, "Any server with OpenAI's API: http://HOST:PORT")->required();
    verb->add_option("--served-model", o->served_model, "The model's name there; default: the first one");
    verb->add_option("--api-key", o->key, "The key that it asks for")->envname("SMELT_API_KEY");
    group("What it is compared with");
    add_model_argument(*verb, o->model);
    verb->add_option("--against", o->against, "Answers that --record wrote, in place of a model")
        ->check(CLI::ExistingFile)
        ->type_name("FILE");
    verb->add_option("--record", o->record, "Keep the server's answers")
        ->check(named_file())
        ->type_name("FILE");
    group("How");
    verb->add_option("--prompt", o->questions, "A question; may be repeated; default: five")
        ->type_name("TEXT");
    verb->add_option("--tokens", o->n_tokens, "Tokens of an answer")
        ->check(in_range(1, 512))
        ->capture_default_str();
    verb->add_option("--tolerance", o->tolerance, "Mean difference of log-probabilities that is none")
        ->check(in_range(0.0, 100.0))
        ->capture_default_str();
    group("Model and device");
    add_model_options(*verb, o->device);
    group("Output");
    verb->add_flag("--json", o->json, "Print JSON");
    group("Options");
    verb->footer(
        "Answers are greedy. Where two tokens are about as likely, the server may take the other one.\n"
        "The exit code is 0 where all answers agree, 3 where one does not.\n"
        "Examples:\n"
        "  smelt check-api http://127.0.0.1:8080 models/demo-23m\n"
        "  smelt check-api http://127.0.0.1:8080 --record answers.json\n"
        "  smelt check-api http://127.0.0.1:8080 --against answers.json");
    return {verb, [o] { check(*o); }};
}

}  // namespace smelt
