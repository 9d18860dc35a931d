// Streaming and statistics of `smelt run`, and its slash commands.
#include "apps/run_session.h"

#include <fmt/format.h>

#include "apps/memory_use.h"
#include "apps/terminal.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/number.h"

namespace smelt {

namespace {

constexpr const char* dim = "\x1b[2m";
constexpr const char* plain = "\x1b[0m";

constexpr const char* help =
    "/clear            forget the conversation\n"
    "/retry            answer the last message again\n"
    "/system TEXT      set the system message; without TEXT: none\n"
    "/think on|off     think before answering, or not\n"
    "/set NAME VALUE   temperature, top-k, top-p, min-p, repeat-penalty, seed or max-tokens\n"
    "/stats            speed and memory of the last answer\n"
    "/save FILE        write the conversation as JSON\n"
    "/exit             leave; so does Ctrl-D\n"
    "Ctrl-C stops an answer. A line that ends in \\ goes on in the next; so does text between two \"\"\".\n";

double time_to_first_token(const FinishEvent& f) {
    return f.queued + f.prefill;
}

double rate(int tokens, double seconds) {
    return seconds > 0 ? tokens / seconds : 0;
}
double prefill_rate(const FinishEvent& f) {
    return rate(f.n_prompt - f.n_cached_prompt, f.prefill);
}
// The first token belongs to the prefill.
double decode_rate(const FinishEvent& f) {
    return rate(f.n_generated - 1, f.decode);
}

// Thinking goes to a terminal dimmed. Where stdout is no terminal it carries the answer alone, and thinking
// goes to stderr.
class Printer {
 public:
    void print(const TextDelta& delta) {
        if (!delta.thinking.empty()) {
            std::FILE* to = is_terminal(stdout) ? stdout : stderr;
            if (!thinking_ && wants_style(to)) fmt::print(to, "{}", dim);
            thinking_ = true;
            fmt::print(to, "{}", delta.thinking);
            std::fflush(to);
        }
        if (!delta.answer.empty()) {
            if (thinking_) end_thinking();
            fmt::print("{}", delta.answer);
            std::fflush(stdout);
        }
    }
    void finish() {
        if (thinking_) end_thinking();
        fmt::print("\n");
        std::fflush(stdout);
    }

 private:
    void end_thinking() {
        std::FILE* to = is_terminal(stdout) ? stdout : stderr;
        fmt::print(to, "{}\n\n", wants_style(to) ? plain : "");
        thinking_ = false;
    }
    bool thinking_ = false;
};

// Of the KV cache: for the longest conversation, and for what each beam has of its own. 0: as for one answer.
int64_t kv_tokens_for(const RunOptions& o) {
    constexpr int default_answer = 1024, default_context = 4096;
    if (o.beams.width < 2) return 0;
    const int64_t answer = o.max_tokens >= 0 ? o.max_tokens : default_answer;
    return (o.n_ctx > 0 ? o.n_ctx : default_context) + o.beams.width * (answer + 4 * default_block_len);
}

}  // namespace

RunSession::RunSession(const std::string& model, RunOptions options)
    : options_(std::move(options)),
      model_(ChatModel::open(model, {.device = options_.device.name(),
                                     .backend = options_.device.backend(),
                                     .rope_scaling = options_.device.rope_scaling,
                                     .n_ctx = options_.n_ctx,
                                     .kv_tokens = kv_tokens_for(options_),
                                     .kv = options_.kv})) {}

GenerateOptions RunSession::generate_options(const Prompt& prompt) const {
    GenerateOptions g{
        .sampling = model_->default_sampling(), .max_tokens = options_.max_tokens, .stop = options_.stop};
    SamplingParams& s = g.sampling;
    s.temperature = options_.temperature.value_or(s.temperature);
    s.top_k = options_.top_k.value_or(s.top_k);
    s.top_p = options_.top_p.value_or(s.top_p);
    s.min_p = options_.min_p.value_or(s.min_p);
    s.repetition_penalty = options_.repeat_penalty.value_or(s.repetition_penalty);
    s.seed = options_.seed;
    s.top_n_sigma = options_.top_n_sigma;
    s.typical_p = options_.typical_p;
    s.xtc_probability = options_.xtc_probability;
    s.xtc_threshold = options_.xtc_threshold;
    s.dry_multiplier = options_.dry_multiplier;
    s.dry_base = options_.dry_base;
    s.dry_allowed_length = options_.dry_allowed_length;
    s.dry_last_n = options_.dry_last_n;
    if (s.dry_multiplier > 0) s.dry_breakers = model_->tokens_with(options_.dry_breakers);
    g.thinking_budget = options_.thinking_budget;
    g.best_of = options_.best_of;
    g.beams = options_.beams;
    if (options_.grammar) {
        GrammarSpec spec = *options_.grammar;
        if (prompt.starts_thinking) {
            spec = GrammarSpec::sequence({GrammarSpec::text_until({std::string(think_close)}),
                                          GrammarSpec::regex("\\n{0,2}"), std::move(spec)});
        }
        auto compiled = model_->compile(spec);
        if (const auto* error = std::get_if<GrammarError>(&compiled)) throw Error("{}", error->message());
        g.grammar = std::get<std::shared_ptr<TokenGrammar>>(std::move(compiled));
    }
    return g;
}

RunSession::Answer RunSession::generate(Show show) {
    Json messages = Json::array();
    if (options_.system) messages.push_back({{"role", "system"}, {"content", *options_.system}});
    for (const Json& m : messages_) messages.push_back(m);
    const Prompt prompt = model_->make_prompt(messages, {.thinking = options_.thinking});
    const InterruptGuard guard;
    InterruptGuard::take();
    GenerateOptions options = generate_options(prompt);
    const bool beams = options.beams.width > 0;  // whose probabilities are known anyway
    if (show == Show::nothing && !beams) options.n_logprobs = 0;
    const auto generation = model_->generate(prompt, options);
    Answer answer;
    Printer printer;
    while (const auto delta = generation->next()) {
        if (InterruptGuard::take()) generation->cancel();
        answer.thinking += delta->thinking;
        answer.text += delta->answer;
        if (show == Show::stream) printer.print(*delta);
    }
    if (show == Show::stream) printer.finish();
    answer.finish = generation->finish();
    answer.finish_reason = generation->finish_reason();
    return answer;
}

void RunSession::print_statistics(const Answer& a) const {
    const FinishEvent& f = a.finish;
    const MemoryUse memory = memory_use(*model_);
    fmt::print(
        stderr,
        "\n{}prompt {} tokens, {:.1f} tok/s; answer {} tokens, {:.1f} tok/s; first token after {:.3f} s\n",
        wants_style(stderr) ? dim : "", f.n_prompt, prefill_rate(f), f.n_generated, decode_rate(f),
        time_to_first_token(f));
    fmt::print(stderr, "memory {} on {}{}\n", memory.text(), model_->backend().description(),
               wants_style(stderr) ? plain : "");
}

void RunSession::answer(const std::string& prompt) {
    messages_.push_back({{"role", "user"}, {"content", prompt}});
    print_statistics(generate(Show::stream));
}

Json RunSession::answer_json(const std::string& prompt) {
    messages_.push_back({{"role", "user"}, {"content", prompt}});
    const Answer a = generate(Show::nothing);
    const FinishEvent& f = a.finish;
    return {{"answer", a.text},
            {"thinking", a.thinking},
            {"finish_reason", a.finish_reason},
            {"cumulative_logprob", f.cumulative_logprob},
            {"usage",
             {{"prompt_tokens", f.n_prompt},
              {"cached_prompt_tokens", f.n_cached_prompt},
              {"completion_tokens", f.n_generated}}},
            {"timings",
             {{"time_to_first_token_s", time_to_first_token(f)},
              {"prompt_tokens_per_s", prefill_rate(f)},
              {"completion_tokens_per_s", decode_rate(f)},
              {"grammar_s", f.grammar}}},
            {"memory", memory_use(*model_).json()}};
}

void RunSession::say(const std::string& message) {
    messages_.push_back({{"role", "user"}, {"content", message}});
    try {
        last_ = generate(Show::stream);
    } catch (const Error& e) {
        // The conversation goes on as if the message had not been sent.
        messages_.erase(messages_.end() - 1);
        fmt::print(stderr, "{}\n", e.what());
        return;
    }
    messages_.push_back(
        {{"role", "assistant"}, {"content", last_->text}, {"reasoning_content", last_->thinking}});
    if (last_->finish_reason == "length") {
        fmt::print(
            stderr, "(cut off: {})\n",
            options_.max_tokens >= 0 ? "--max-tokens reached" : "the context is full; /clear begins anew");
    }
}

void RunSession::chat() {
    fmt::print(stderr, "{}: {} tokens of context. /help lists the commands.\n",
               model_->file().path.filename().string(), model_->n_ctx());
    MessageReader reader;
    while (true) {
        std::optional<std::string> line;
        {
            const InterruptGuard guard;
            line = reader.read();
        }
        if (!line) break;
        if (line->find_first_not_of(" \t\r\n") == std::string::npos) continue;
        if (!line->starts_with('/')) {
            say(*line);
        } else if (!command(*line)) {
            break;
        }
    }
    fmt::print(stderr, "\n");
    if (last_) print_statistics(*last_);
}

bool RunSession::command(const std::string& line) {
    const size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    const std::string rest =
        space == std::string::npos ? "" : line.substr(line.find_first_not_of(' ', space));
    try {
        if (name == "/exit" || name == "/quit" || name == "/bye") return false;
        if (name == "/help" || name == "/?") {
            fmt::print(stderr, "{}", help);
        } else if (name == "/clear") {
            messages_.clear();
        } else if (name == "/retry") {
            if (messages_.empty()) throw Error("there is no message to answer again");
            if (messages_.back().at("role") == "assistant") messages_.erase(messages_.end() - 1);
            const std::string message = messages_.back().at("content");
            messages_.erase(messages_.end() - 1);
            say(message);
        } else if (name == "/system") {
            options_.system = rest.empty() ? std::nullopt : std::optional(rest);
        } else if (name == "/think") {
            if (rest != "on" && rest != "off") throw Error("/think: expected on or off, found \"{}\"", rest);
            options_.thinking = rest == "on";
        } else if (name == "/set") {
            const size_t gap = rest.find(' ');
            if (gap == std::string::npos) throw Error("/set: expected a name and a value");
            set(rest.substr(0, gap), rest.substr(gap + 1));
        } else if (name == "/stats") {
            if (!last_) throw Error("there is no answer yet");
            print_statistics(*last_);
        } else if (name == "/save") {
            save(rest);
        } else {
            throw Error("{}: no such command; /help lists them", name);
        }
    } catch (const Error& e) {
        fmt::print(stderr, "{}\n", e.what());
    }
    return true;
}

void RunSession::set(const std::string& name, const std::string& value) {
    const double number = parse_real(value).value_or(NAN);
    if (!(number >= -1 && number < 1e9)) {
        throw Error("/set {}: expected a number, found \"{}\"", name, value);
    }
    const auto real = static_cast<float>(number);
    const auto integer = static_cast<int>(number);
    if (name == "temperature" || name == "temp") {
        options_.temperature = real;
    } else if (name == "top-k") {
        options_.top_k = integer;
    } else if (name == "top-p") {
        options_.top_p = real;
    } else if (name == "min-p") {
        options_.min_p = real;
    } else if (name == "repeat-penalty") {
        options_.repeat_penalty = real;
    } else if (name == "seed") {
        options_.seed = static_cast<uint64_t>(number < 0 ? 0 : number);
    } else if (name == "max-tokens") {
        options_.max_tokens = integer;
    } else {
        throw Error("/set: {} is not known; /help lists the names", name);
    }
}

void RunSession::save(const std::string& path) const {
    if (path.empty()) throw Error("/save: expected a file name");
    AtomicFile file(path);
    file.write(messages_.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    file.commit();
    fmt::print(stderr, "{} messages written to {}\n", messages_.size(), path);
}

}  // namespace smelt
