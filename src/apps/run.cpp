// smelt run: a chat in the terminal, or one answer. Answers go to stdout, all else to stderr.
#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <iterator>

#include "apps/hub_model.h"
#include "apps/kv_option.h"
#include "apps/run_session.h"
#include "apps/terminal.h"
#include "apps/verbs.h"
#include "base/error.h"
#include "base/mapped_file.h"

namespace smelt {

namespace {

struct Options {
    std::string model;
    std::string json_schema, grammar, regex;
    bool json_object = false;
    std::vector<std::string> dry_breakers;
    std::optional<std::string> prompt;
    std::string file;
    RunOptions run;
    bool json = false;
};

std::string read_file(const std::string& path) {
    if (path != "-") return std::string(MappedFile(path).text());
    return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

// The text itself, or the file that it names.
std::string text_or_file(const std::string& text) {
    std::error_code none;
    return std::filesystem::is_regular_file(text, none) ? read_file(text) : text;
}

std::optional<AnswerBound> bound_of(const Options& o) {
    if (!o.json_schema.empty()) {
        return AnswerBound{GrammarSpec::json_schema(parse_json(text_or_file(o.json_schema), "--json-schema")),
                           "--json-schema"};
    }
    if (!o.grammar.empty()) return AnswerBound{GrammarSpec::gbnf(text_or_file(o.grammar)), "--grammar"};
    if (!o.regex.empty()) return AnswerBound{GrammarSpec::regex(o.regex), "--regex"};
    if (o.json_object) return AnswerBound{GrammarSpec::json_object(), "--json-object"};
    return std::nullopt;
}

void add_sampling_options(CLI::App& verb, SamplingChanges& to) {
    for (const SamplingParam& p : sampling_table()) {
        if (p.flags.empty()) continue;
        const std::string flags(p.flags), doc(p.doc.substr(0, p.doc.size() - 1));  // without the full stop
        CLI::Option* option = nullptr;
        if (p.integer != nullptr) {
            option = verb.add_option_function<int>(
                flags, [&to, &p](int v) { to.set(p, v); }, doc);
            option->check(CLI::Range(static_cast<int>(p.min), static_cast<int>(p.max)));
        } else {
            option = verb.add_option_function<double>(
                flags, [&to, &p](double v) { to.set(p, v); }, doc);
            option->check(CLI::Range(p.min, p.max));
        }
        // Without one: the model's generation_config.json decides.
        if (!p.fallback.empty()) option->default_str(std::string(p.fallback));
    }
}

void run(Options o) {
    o.run.request.bound = bound_of(o);
    if (!o.dry_breakers.empty()) o.run.request.dry_breakers = o.dry_breakers;
    std::optional<std::string> prompt = o.prompt;
    if (!prompt && o.file.empty() && !is_terminal(stdin)) prompt = read_file("-");
    if (!o.file.empty()) prompt = (prompt ? *prompt + "\n\n" : "") + read_file(o.file);
    if (prompt && prompt->empty()) throw Error("the prompt is empty");
    if (o.json && !prompt) throw CLI::ValidationError("--json", "needs --prompt");

    RunSession session(local_model(o.model), o.run);
    if (!prompt) {
        session.chat();
    } else if (o.json) {
        fmt::print("{}\n", session.answer_json(*prompt).dump(2));
    } else {
        session.answer(*prompt);
    }
}

}  // namespace

Verb add_run(CLI::App& smelt) {
    auto o = std::make_shared<Options>();
    GenerateOptions& generate = o->run.request.options;
    CLI::App* verb = smelt.add_subcommand("run", "Chat with a model, or ask it one thing");
    verb->alias("chat");
    add_model_argument(*verb, o->model)->required();
    verb->add_option("-p,--prompt,prompt", o->prompt, "Ask this and end; without it: a conversation");
    // Never read unasked beside --prompt: a program that starts smelt may leave its end of the pipe open.
    verb->add_option("-f,--file", o->file, "A file whose text stands behind the prompt; -: standard input");
    verb->add_option("--system", o->run.system, "System message");
    verb->add_flag_function(
        "--think,!--no-think", [o](int64_t n) { o->run.request.thinking = n > 0; },
        "Think before answering, or not; default: as the model's template does");
    verb->add_option("--thinking-budget,--reasoning-budget", generate.thinking_budget,
                     "Tokens of thinking at most, then the answer; -1: no limit")
        ->check(CLI::Range(-1, 1 << 30))
        ->capture_default_str();
    verb->add_option("-n,--max-tokens", generate.max_tokens,
                     "Tokens of an answer at most; -1: no limit but the context")
        ->check(CLI::Range(-1, 1 << 30))
        ->capture_default_str();
    add_sampling_options(*verb, o->run.request.sampling);
    verb->add_option("--dry-sequence-breaker", o->dry_breakers,
                     "No repetition goes across this text; may be repeated; default: line break : \" *");
    auto* schema = verb->add_option("--json-schema", o->json_schema,
                                    "The answer is JSON of this schema, a text or a file");
    auto* gbnf = verb->add_option("--grammar", o->grammar,
                                  "The answer is a text of this GBNF grammar, a text or a file");
    auto* regex = verb->add_option("--regex", o->regex, "The whole answer matches this regular expression");
    auto* object = verb->add_flag("--json-object", o->json_object, "The answer is a JSON object");
    const std::vector<CLI::Option*> kinds = {schema, gbnf, regex, object};
    for (auto* a : kinds) {
        for (auto* b : kinds) {
            if (a != b) a->excludes(b);
        }
    }
    verb->add_option("--best-of", generate.best_of, "Make this many answers and show the likeliest");
    auto* beams = verb->add_option("--beams", generate.beams.width, "Beam search with this many beams");
    verb->add_option("--length-penalty", generate.beams.length_penalty,
                     "Beams: a text's log-probability is divided by its length to this power")
        ->needs(beams)
        ->capture_default_str();
    verb->add_option("-s,--seed", generate.sampling.seed, "Same seed, same answer");
    verb->add_option("--stop", generate.stop, "End the answer before this text; may be repeated")
        ->allow_extra_args(false);
    verb->add_option("-c,--ctx", o->run.n_ctx, "Context in tokens; 0: as trained, or what fits into memory")
        ->check(CLI::Range(0, 1 << 30))
        ->capture_default_str();
    add_kv_option(*verb, o->run.kv);
    add_model_options(*verb, o->run.device);
    verb->add_flag("--json", o->json,
                   "With --prompt: print answer, thinking, token counts and times as JSON");
    verb->footer(
        "Examples:\n  smelt run models/demo-23m\n  smelt run models/demo-23m -p 'What is ripgrep?' --temp 0\n"
        "  git diff | smelt run models/demo-23m -p 'Describe this change.' -f -\n\n"
        "In a conversation, /help lists the commands; Ctrl-C stops an answer, Ctrl-D ends.");
    return {verb, [o] { run(*o); }};
}

}  // namespace smelt
