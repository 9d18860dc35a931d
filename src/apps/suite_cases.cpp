// Ladders go up by about four, so that a logarithmic axis has few and even marks.
#include "apps/suite_cases.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace smelt {

namespace {

// As the documents have them from which smelt was made: five questions of 3 to 89 tokens and the tokens of
// their answers; three lengths of answers from two models at once; one very long text.
struct NamedCase {
    const char* name;
    const char* question;
    int answer;
};
const NamedCase questions[] = {{"question-1", "Who is Clinton?", 52},
                               {"question-2", "What is a computer, and what do people use it for?", 95},
                               {"question-3",
                                "Explain in a few sentences how a program that is written in C becomes "
                                "machine code, and what the compiler, the "
                                "assembler and the linker each do.",
                                178},
                               {"question-4",
                                "Write a comprehensive essay about the evolution of artificial intelligence, "
                                "from the first ideas about thinking "
                                "machines to large language models. Say what each time hoped for, what it "
                                "could build, why progress stopped now "
                                "and then, and which inventions made it go on again.",
                                267},
                               {"question-5",
                                "Provide an exhaustive analysis of the transformer architecture and its "
                                "impact. Begin with attention and say what "
                                "it replaced. Explain queries, keys and values, several heads, positions, "
                                "normalisation and feed-forward layers. "
                                "Compare the cost of reading a long text with that of writing an answer, and "
                                "name what has been done to make both "
                                "cheaper: caches, grouped heads, quantization, and mixtures of experts.",
                                324}};
const NamedCase answers[] = {{"short", "What is an operating system?", 50},
                             {"medium", "What is an operating system?", 150},
                             {"long", "What is an operating system?", 300}};
constexpr int extended_prompt = 1456, extended_answer = 4234;

// Steps that fit; where some do not, the most that does is the last.
std::vector<int> fitting(std::vector<int> steps, int most) {
    const size_t n = steps.size();
    std::erase_if(steps, [&](int s) { return s > most; });
    if (steps.size() < n && most > 0 && (steps.empty() || steps.back() < most)) steps.push_back(most);
    return steps;
}

class CasePlan {
 public:
    explicit CasePlan(const SuiteScope& scope) : s_(scope) {}

    std::vector<SuiteCase> make() {
        for (const std::string& model : s_.models) {
            for (const std::string& device : s_.devices)
                ladders({.kind = "", .model = model, .device = device});
        }
        together();
        for (const std::string& device : s_.devices) {
            for (const std::string& format : s_.formats) {
                add({.kind = "format",
                     .model = s_.models[0],
                     .device = device,
                     .format = format,
                     .prompt = prompt(),
                     .answer = answer()});
            }
        }
        if (std::ranges::find(s_.devices, "cpu") != s_.devices.end() && s_.n_cores > 1) {
            for (int n = 1; n < 2 * s_.n_cores; n *= 2) {
                add({.kind = "threads",
                     .model = s_.models[0],
                     .device = "cpu",
                     .threads = std::min(n, s_.n_cores),
                     .prompt = prompt(),
                     .answer = answer()});
            }
        }
        for (const char* kind : {"start", "ops"}) {
            for (const std::string& model : s_.models) {
                for (const std::string& device : s_.devices) {
                    add({.kind = kind,
                         .model = model,
                         .device = device,
                         .prompt = prompt(),
                         .answer = answer()});
                }
            }
        }
        return std::move(cases_);
    }

 private:
    int prompt() const { return std::min(s_.quick ? 64 : 256, s_.n_ctx / 2); }
    int answer() const { return std::min(s_.quick ? 16 : 64, s_.n_ctx / 4); }

    void add(SuiteCase c) {
        if (s_.kinds.empty() || std::ranges::find(s_.kinds, c.kind) != s_.kinds.end())
            cases_.push_back(std::move(c));
    }

    void ladders(const SuiteCase& of) {
        SuiteCase c = of;
        c.kind = "prompt";
        c.answer = answer();
        const std::vector<int> prompts =
            s_.quick ? std::vector{3, 32, 128, 512} : std::vector{3, 16, 64, 256, 1024, 4096};
        for (const int n : fitting(prompts, s_.n_ctx - c.answer)) {
            c.prompt = n;
            add(c);
        }
        c.kind = "answer";
        c.prompt = std::min(32, s_.n_ctx / 4);
        const std::vector<int> lengths = s_.quick ? std::vector{8, 32, 128} : std::vector{16, 64, 256, 1024};
        const std::vector<int> fit = fitting(lengths, s_.n_ctx - c.prompt);
        for (const int n : fit) {
            c.answer = n;
            c.over_time = n == fit.back();
            add(c);
        }
        c.over_time = false;
        c.kind = "streams";
        c.answer = answer();
        for (const int n : s_.quick ? std::vector{1, 4, 16} : std::vector{1, 2, 4, 8, 16, 32}) {
            c.streams = n;
            add(c);
        }
        c.streams = 1;
        c.kind = "strategy";
        for (const std::string& strategy : suite_strategies()) {
            c.strategy = strategy;
            add(c);
        }
        if (!s_.has_text) return;
        c = of;
        c.kind = "case";
        c.may_stop = true;
        for (const NamedCase& q : questions) add_named(c, q);
        if (s_.models.size() < 2) {
            for (const NamedCase& q : answers) add_named(c, q);
        }
        if (s_.quick) return;
        c.name = "extended";
        c.prompt = extended_prompt;
        c.answer = extended_answer;
        c.may_stop = false;
        c.over_time = true;
        add(c);
    }

    void add_named(SuiteCase c, const NamedCase& q) {
        c.name = q.name;
        c.question = q.question;
        c.answer = q.answer;
        add(std::move(c));
    }

    void together() {
        if (s_.models.size() < 2 || !s_.has_text) return;
        for (const std::string& device : s_.devices) {
            for (const NamedCase& q : answers) {
                add_named({.kind = "case",
                           .model = fmt::format("{}", fmt::join(s_.models, " + ")),
                           .device = device,
                           .together = true,
                           .may_stop = true},
                          q);
            }
        }
    }

    const SuiteScope& s_;
    std::vector<SuiteCase> cases_;
};

}  // namespace

std::string SuiteCase::id_without_device() const {
    return fmt::format("{}/{}/{}/{}/{}+{}/{}/{}", kind, model, format, threads, prompt, answer, streams,
                       strategy + name);
}

std::string SuiteCase::id() const {
    return id_without_device() + "@" + device;
}

std::string SuiteCase::target() const {
    return fmt::format("{}@{}/{}/{}/{}", model, device, format, threads,
                       kind == "start" || kind == "ops" ? kind : "");
}

std::string SuiteCase::text() const {
    std::string what = kind == "case" ? name : kind;
    if (kind == "prompt" || kind == "answer")
        what = fmt::format("{} of {} tokens", kind, kind == "prompt" ? prompt : answer);
    if (kind == "streams") what = fmt::format("{} answer{} at once", streams, streams == 1 ? "" : "s");
    if (kind == "strategy") what = strategy;
    if (kind == "format") what = format;
    if (kind == "threads") what = fmt::format("{} thread{}", threads, threads == 1 ? "" : "s");
    return fmt::format("{}: {} on {}", what, model, device);
}

std::vector<SuiteCase> suite_cases(const SuiteScope& scope) {
    return CasePlan(scope).make();
}

const std::vector<std::string>& suite_kinds() {
    static const std::vector<std::string> kinds = {"prompt", "answer",  "streams", "strategy", "case",
                                                   "format", "threads", "start",   "ops"};
    return kinds;
}

const std::vector<std::string>& suite_strategies() {
    static const std::vector<std::string> strategies = {"greedy", "sampling", "top-k", "top-p", "beam"};
    return strategies;
}

}  // namespace smelt
