// smelt run: a chat in the terminal, or one answer. Answers go to stdout, all else to stderr.
#include <fmt/format.h>

#include <filesystem>
#include <iostream>
#include <iterator>

#include "apps/hub_model.h"
#include "apps/kv_option.h"
#include "apps/model_text_options.h"
#include "apps/run_batch.h"
#include "apps/run_session.h"
#include "apps/terminal.h"
#include "apps/trace_file.h"
#include "apps/values.h"
#include "apps/verbs.h"
#include "base/error.h"
#include "base/mapped_file.h"

namespace smelt {

namespace {

struct RunVerbOptions {
    std::string model;
    std::string json_schema, grammar, regex;
    bool json_object = false;
    std::vector<std::string> dry_breakers;
    std::optional<std::string> prompt, asked;  // --prompt, PROMPT
    std::string file;
    RunOptions run;
    BatchOptions batch;
    bool json = false;
};

std::string read_file(const std::string& path) {
    if (path != "-") return std::string(MappedFile(path).text());
    return {std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>()};
}

std::optional<AnswerBound> bound_of(const RunVerbOptions& o) {
    if (!o.json_schema.empty()) {
        return AnswerBound{GrammarSpec::json_schema(parse_json(text_or_file(o.json_schema), "--json-schema")),
                           "--json-schema"};
    }
    if (!o.grammar.empty()) return AnswerBound{GrammarSpec::gbnf(text_or_file(o.grammar)), "--grammar"};
    if (!o.regex.empty()) return AnswerBound{GrammarSpec::regex(o.regex), "--regex"};
    if (o.json_object) return AnswerBound{GrammarSpec::json_object(), "--json-object"};
    return std::nullopt;
}

// Words of the command line, then the file's or those of the pipe. Beside --prompt, which programs write, a
// pipe is never read unasked: they may leave its other end open.
std::optional<std::string> read_prompt(const RunVerbOptions& o) {
    std::optional<std::string> prompt = o.prompt ? o.prompt : o.asked;
    std::string more;
    if (!o.file.empty()) {
        more = read_file(o.file);
    } else if (!prompt && !is_terminal(stdin)) {
        more = read_file("-");
        if (more.empty()) throw Error("the prompt is empty");
    } else if (!o.prompt && has_piped_input()) {
        more = read_file("-");
    }
    if (!more.empty()) prompt = (prompt ? *prompt + "\n\n" : "") + more;
    if (prompt && prompt->empty()) throw Error("the prompt is empty");
    return prompt;
}

void run(RunVerbOptions o) {
    o.run.request.bound = bound_of(o);
    if (!o.dry_breakers.empty()) o.run.request.dry_breakers = o.dry_breakers;
    if (!o.run.images.empty() && (o.run.raw || !o.batch.input.empty()))
        throw CLI::ValidationError("--image", "goes with neither --raw nor --batch");
    if (!o.batch.input.empty()) return run_batch(local_model(o.model), o.run, o.batch);
    const std::optional<std::string> prompt = read_prompt(o);
    if (o.json && !prompt) throw CLI::ValidationError("--json", "needs --prompt");
    if (o.run.raw && !prompt) throw CLI::ValidationError("--raw", "needs a prompt");

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
    auto o = std::make_shared<RunVerbOptions>();
    GenerateOptions& generate = o->run.request.options;
    CLI::App* verb = smelt.add_subcommand("run", "Chat with a model, or ask it one thing");
    verb->alias("chat");
    const auto group = [verb](const char* name) { verb->option_defaults()->group(name); };
    group("What is asked");
    add_model_argument(*verb, o->model)->required();
    verb->add_option("prompt", o->asked,
                     "Answer this and exit; text from a pipe follows it. Without it: a conversation");
    auto* prompt = verb->add_option("-p,--prompt", o->prompt, "The same, but a pipe is not read");
    prompt->excludes(verb->get_option("prompt"));
    verb->add_option("-f,--file", o->file, "File whose text follows the prompt; - reads standard input");
    auto* system = verb->add_option("--system", o->run.system, "System message");
    verb->add_flag("--raw", o->run.raw, "Continue the prompt as it is, without the model's template")
        ->excludes(system);
    add_template_options(*verb, o->run.chat);
    verb->add_flag_function(
        "--think,!--no-think", [o](int64_t n) { o->run.request.thinking = n > 0; },
        "Think before answering, or not; default: as the model's template does");
    group("The answer");
    verb->add_option("--thinking-budget,--reasoning-budget", generate.thinking_budget,
                     "Most tokens of thinking before the answer; -1: no limit")
        ->check(in_range(-1, 1 << 30))
        ->capture_default_str();
    verb->add_option("-n,--max-tokens", generate.max_tokens,
                     "Most tokens in an answer; -1: no limit but the context")
        ->check(in_range(-1, 1 << 30))
        ->capture_default_str();
    group("Sampling");
    add_sampling_options(*verb, o->run.request.sampling);
    verb->add_option("--dry-sequence-breaker", o->dry_breakers,
                     "No repetition goes across this text; may be repeated; default: line break : \" *");
    group("Form of the answer");
    auto* schema = verb->add_option("--json-schema", o->json_schema,
                                    "The answer is JSON that fits this schema, given as text or a file");
    auto* gbnf = verb->add_option("--grammar", o->grammar,
                                  "The answer follows this GBNF grammar, given as text or a file");
    auto* regex = verb->add_option("--regex", o->regex, "The whole answer matches this regular expression");
    auto* object = verb->add_flag("--json-object", o->json_object, "The answer is a JSON object");
    const std::vector<CLI::Option*> kinds = {schema, gbnf, regex, object};
    for (auto* a : kinds) {
        for (auto* b : kinds) {
            if (a != b) a->excludes(b);
        }
    }
    verb->add_option("--best-of", generate.best_of, "Make this many answers and show the likeliest")
        ->check(in_range(0, 1 << 30));
    auto* beams = verb->add_option("--beams", generate.beams.width, "Beam search with this many beams")
                      ->check(in_range(0, 1 << 30));
    verb->add_option("--length-penalty", generate.beams.length_penalty,
                     "Beams: a text's log-probability is divided by its length to this power")
        ->needs(beams)
        ->check(in_range(-1e6, 1e6))
        ->capture_default_str();
    group("Sampling");
    verb->add_option("-s,--seed", generate.sampling.seed, "Same seed, same answer; -1: another each time")
        ->check(in_range(int64_t{-1}, std::numeric_limits<int64_t>::max()));
    group("The answer");
    verb->add_option("--stop", generate.stop, "End the answer before this text; may be repeated")
        ->allow_extra_args(false);
    group("What is asked");
    verb->add_option(
            "--image", o->run.images,
            "Picture for the prompt or the first message (PNG, JPEG, WebP, GIF, PPM); may be repeated")
        ->check(CLI::ExistingFile)
        ->type_name("FILE")
        ->allow_extra_args(false);
    add_mmproj_option(*verb, o->run.device);
    verb->add_option(
            "--image-max-tokens", o->run.image_max_tokens,
            "Most tokens of a picture; larger pictures are scaled down. 0: half the context, at most 1024")
        ->check(in_range(0, 1 << 20))
        ->capture_default_str();
    group("Model and device");
    verb->add_option("-c,--ctx", o->run.n_ctx, "Context in tokens; 0: as trained, or what fits into memory")
        ->check(in_range(0, 1 << 30))
        ->capture_default_str();
    verb->add_option("--lora,--lora-scaled", o->run.lora,
                     "LoRA adapter that is added to the model: PATH or PATH:SCALE; may be repeated")
        ->type_name("ADAPTER")
        ->allow_extra_args(false);
    add_kv_option(*verb, o->run.kv);
    add_model_options(*verb, o->run.device);
    group("Drafts");
    add_draft_options(*verb, o->run.drafts);
    group("Output");
    verb->add_flag("--json", o->json,
                   "With --prompt: print answer, thinking, token counts and times as JSON");
    verb->add_option("--batch", o->batch.input,
                     "Answer every line of FILE, each a JSON string or an object with prompt or messages; "
                     "prints JSON lines")
        ->type_name("FILE")
        ->excludes(prompt, verb->get_option("prompt"));
    verb->add_option("-o,--output", o->batch.output,
                     "With --batch: append answers to FILE and skip the lines that it already answers")
        ->type_name("FILE")
        ->needs(verb->get_option("--batch"));
    verb->footer(
        "Examples:\n  smelt run models/demo-23m\n  smelt run models/demo-23m -p 'What is ripgrep?' --temp 0\n"
        "  git diff | smelt run models/demo-23m 'Describe this change.'\n"
        "  smelt run models/demo-23m --batch questions.jsonl -o answers.jsonl\n\n"
        "In a conversation, /help lists the commands; Ctrl-C stops an answer, Ctrl-D ends.");
    return {verb, [o] { run_traced(o->run.device, [&] { run(*o); }); }};
}

}  // namespace smelt
