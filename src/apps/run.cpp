// smelt run: a chat in the terminal, or one answer. Answers go to stdout, all else to stderr.
#include <fmt/core.h>

#include <iostream>
#include <iterator>

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
    std::optional<std::string> prompt;
    std::string file;
    RunOptions run;
    bool json = false;
};

std::string read_file(const std::string& path) {
    if (path != "-") return std::string(MappedFile(path).text());
    return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

void run(const Options& o) {
    std::optional<std::string> prompt = o.prompt;
    if (!prompt && o.file.empty() && !is_terminal(stdin)) prompt = read_file("-");
    if (!o.file.empty()) prompt = (prompt ? *prompt + "\n\n" : "") + read_file(o.file);
    if (prompt && prompt->empty()) throw Error("the prompt is empty");
    if (o.json && !prompt) throw CLI::ValidationError("--json", "needs --prompt");

    RunSession session(o.model, o.run);
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
    CLI::App* verb = smelt.add_subcommand("run", "Chat with a model, or ask it one thing");
    verb->alias("chat");
    verb->add_option("model", o->model, "Model folder, .gguf or .bin")->required();
    verb->add_option("-p,--prompt,prompt", o->prompt, "Ask this and end; without it: a conversation");
    // Never read unasked beside --prompt: a program that starts smelt may leave its end of the pipe open.
    verb->add_option("-f,--file", o->file, "A file whose text stands behind the prompt; -: standard input");
    verb->add_option("--system", o->run.system, "System message");
    verb->add_flag_function(
        "--think,!--no-think", [o](int64_t n) { o->run.thinking = n > 0; },
        "Think before answering, or not; default: as the model's template does");
    verb->add_option("-n,--max-tokens", o->run.max_tokens,
                     "Tokens of an answer at most; -1: no limit but the context")
        ->check(CLI::Range(-1, 1 << 30))
        ->capture_default_str();
    // Without a default here: the model's generation_config.json decides.
    verb->add_option("--temp,--temperature", o->run.temperature,
                     "Temperature; 0: always the likeliest token");
    verb->add_option("--top-k", o->run.top_k, "Draw from this many likeliest tokens; 0: all");
    verb->add_option("--top-p", o->run.top_p,
                     "Draw from the likeliest tokens with this probability together");
    verb->add_option("--min-p", o->run.min_p,
                     "Leave out tokens below this part of the likeliest's probability");
    verb->add_option("--repeat-penalty", o->run.repeat_penalty, "Penalty on tokens seen before; 1: none");
    verb->add_option("-s,--seed", o->run.seed, "Same seed, same answer");
    verb->add_option("--stop", o->run.stop, "End the answer before this text; may be repeated");
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
