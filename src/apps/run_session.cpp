// Streaming and statistics of `smelt run`, and its slash commands.
#include "apps/run_session.h"

#include <fmt/format.h>

#include "apps/hub_model.h"
#include "apps/memory_use.h"
#include "apps/terminal.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "base/number.h"
#include "chat/picture_prompt.h"

namespace smelt {

namespace {

constexpr const char* dim = "\x1b[2m";
constexpr const char* plain = "\x1b[0m";

constexpr const char* help =
    "/clear            forget the conversation\n"
    "/retry            answer the last message again\n"
    "/system TEXT      set the system message; without TEXT: none\n"
    "/think on|off     think before answering, or not\n"
    "/image FILE       show a picture with the next message\n"
    "/set NAME VALUE   seed, max-tokens, or an option of sampling: temperature, top-k, top-p, min-p, ...\n"
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

bool is_quiet() {
    return !spdlog::should_log(spdlog::level::info);
}

// A model's text must not steer the terminal: control characters are shown as their pictures.
std::string shown(const std::string& text, std::FILE* to) {
    if (!is_terminal(to)) return text;
    std::string out;
    for (size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        const bool has_next = i + 1 < text.size();
        const auto next = static_cast<unsigned char>(has_next ? text[i + 1] : '\0');
        if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
            out += "\xe2\x90";  // U+2400 and on
            out += static_cast<char>(c == 0x7f ? 0xa1 : 0x80 + c);
        } else if (c == 0xc2 && has_next && next < 0xa0) {  // U+0080 to U+009F steer terminals as well
            out += fmt::format("<{:02x}>", next);
            ++i;
        } else {
            out += text[i];
        }
    }
    return out;
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
            fmt::print(to, "{}", shown(delta.thinking, to));
            std::fflush(to);
        }
        if (!delta.answer.empty()) {
            if (thinking_) end_thinking();
            fmt::print("{}", shown(delta.answer, stdout));
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
    const GenerateOptions& g = o.request.options;
    if (g.beams.width < 2) return 0;
    const int64_t answer = g.max_tokens >= 0 ? g.max_tokens : default_answer;
    return (o.n_ctx > 0 ? o.n_ctx : default_context) + g.beams.width * (answer + 4 * default_block_len);
}

}  // namespace

ChatModelOptions open_options(const RunOptions& o) {
    return {.device = o.device.name(),
            .backend = o.device.backend(),
            .mmproj = o.device.mmproj,
            .rope_scaling = o.device.rope_scaling,
            .n_ctx = o.n_ctx,
            .kv_tokens = kv_tokens_for(o),
            .image_max_tokens = o.image_max_tokens,
            .kv = o.kv,
            .engine = {.scheduler = {}, .drafts = o.drafts.options()},
            .draft_model = o.drafts.model.empty() ? std::string() : local_model(o.drafts.model),
            .max_adapters = std::max(8, static_cast<int>(parse_adapters(o.lora).size())),
            .adapters = parse_adapters(o.lora),
            .chat_template = o.chat.source,
            .template_kwargs = o.chat.kwargs};
}

GenerateOptions generate_options(const ChatModel& model, const ChatRequest& r, const Prompt& prompt) {
    GenerateOptions g = make_options(model, r);
    if (!r.bound) return g;
    auto compiled = r.plain ? model.compile(r.bound->spec)
                            : model.compile(answer_grammar(model.answer_form(prompt), r.bound->spec, {}));
    if (const auto* error = std::get_if<GrammarError>(&compiled)) throw Error("{}", error->message());
    g.grammar = std::get<std::shared_ptr<TokenGrammar>>(std::move(compiled));
    return g;
}

RunSession::RunSession(const std::string& model, RunOptions options)
    : options_(std::move(options)), model_(ChatModel::open(model, open_options(options_))) {
    options_.request.options.adapters = load_adapters(*model_, parse_adapters(options_.lora));
    for (const std::string& path : options_.images) show(path);
}

// Reads it now, so that a broken file is refused before the user types a message.
void RunSession::show(const std::string& path) {
    const MappedFile file(path);
    PromptPictures(*model_).add(file.text(), path);
    shown_.push_back(ImagePart{std::make_shared<const std::string>(file.text()), path});
}

Message RunSession::question(const std::string& text) {
    Message m{.role = Role::user, .parts = std::exchange(shown_, {})};
    m.parts.push_back(TextPart{text});
    return m;
}

ChatRequest RunSession::request() const {
    ChatRequest r = options_.request;
    if (options_.raw) {
        r.plain = messages_.back().text();
        r.param = "prompt";
        return r;
    }
    if (options_.system) r.messages.push_back({.role = Role::system, .parts = {TextPart{*options_.system}}});
    r.messages.insert(r.messages.end(), messages_.begin(), messages_.end());
    return r;
}

RunSession::Answer RunSession::generate(Show show) {
    const ChatRequest asked = request();
    const Prompt prompt = make_prompt(*model_, asked);
    const InterruptGuard guard;
    InterruptGuard::take();
    if (spdlog::should_log(spdlog::level::debug)) {
        fmt::print(stderr, "prompt of {} tokens:\n{}\n", prompt.ids.size(),
                   printable(prompt.text, Lines::many));
    }
    GenerateOptions options = generate_options(*model_, asked, prompt);
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
    if (is_quiet()) return;
    const FinishEvent& f = a.finish;
    const MemoryUse memory = memory_use(*model_);
    fmt::print(
        stderr,
        "\n{}prompt {} tokens, {:.1f} tok/s; answer {} tokens, {:.1f} tok/s; first token after {:.3f} s\n",
        wants_style(stderr) ? dim : "", f.n_prompt, prefill_rate(f), f.n_generated, decode_rate(f),
        time_to_first_token(f));
    if (f.n_drafted > 0)
        fmt::print(stderr, "drafts {} of {} tokens accepted\n", f.n_draft_accepted, f.n_drafted);
    fmt::print(stderr, "memory {} on {}{}\n", memory.text(), model_->backend().description(),
               wants_style(stderr) ? plain : "");
}

void RunSession::answer(const std::string& prompt) {
    messages_.push_back(question(prompt));
    print_statistics(generate(Show::stream));
}

Json RunSession::answer_json(const std::string& prompt) {
    messages_.push_back(question(prompt));
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
              {"grammar_s", f.grammar},
              {"draft_n", f.n_drafted},
              {"draft_n_accepted", f.n_draft_accepted}}},
            {"memory", memory_use(*model_).json()}};
}

void RunSession::say(Message message) {
    messages_.push_back(std::move(message));
    try {
        last_ = generate(Show::stream);
    } catch (const Error& e) {
        // The conversation goes on as if the message had not been sent.
        messages_.pop_back();
        fmt::print(stderr, "{}\n", e.what());
        return;
    }
    messages_.push_back(
        {.role = Role::assistant, .parts = {ReasoningPart{last_->thinking}, TextPart{last_->text}}});
    if (last_->finish_reason == "length") {
        fmt::print(stderr, "(cut off: {})\n",
                   options_.request.options.max_tokens >= 0 ? "--max-tokens reached"
                                                            : "the context is full; /clear begins anew");
    }
}

void RunSession::chat() {
    if (!is_quiet()) {
        fmt::print(stderr, "{}: {} tokens of context. /help lists the commands.\n",
                   model_->file().path.filename().string(), model_->n_ctx());
    }
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
            say(question(*line));
        } else if (!command(*line)) {
            break;
        }
    }
    if (!is_quiet()) fmt::print(stderr, "\n");
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
            if (messages_.back().role == Role::assistant) messages_.pop_back();
            Message message = std::move(messages_.back());
            messages_.pop_back();
            say(std::move(message));
        } else if (name == "/image") {
            if (rest.empty()) throw Error("/image: expected a file name");
            show(rest);
        } else if (name == "/system") {
            options_.system = rest.empty() ? std::nullopt : std::optional(rest);
        } else if (name == "/think") {
            if (rest != "on" && rest != "off") throw Error("/think: expected on or off, found \"{}\"", rest);
            options_.request.thinking = rest == "on";
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
    if (!(number >= -100 && number < 1e9)) {
        throw Error("/set {}: expected a number, found \"{}\"", name, value);
    }
    GenerateOptions& options = options_.request.options;
    if (name == "seed") {
        options.sampling.seed = static_cast<uint64_t>(number < 0 ? 0 : number);
    } else if (name == "max-tokens") {
        options.max_tokens = static_cast<int>(number);
    } else if (const SamplingParam* p = find_sampling_param(name)) {
        if (number < p->min || number > p->max) {
            throw Error("/set {}: expected {} to {}, found {}", name, p->min, p->max, value);
        }
        options_.request.sampling.set(*p, number);
    } else {
        throw Error("/set: {} is not known; /help lists the names", name);
    }
}

void RunSession::save(const std::string& path) const {
    if (path.empty()) throw Error("/save: expected a file name");
    AtomicFile file(path);
    file.write(template_messages(messages_).dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
    file.commit();
    fmt::print(stderr, "{} messages written to {}\n", messages_.size(), path);
}

}  // namespace smelt
