// Answers a model under schemas: one schema a line on stdin, one JSON object a line on stdout, in order, with
// "refused" or with "answer" and "finish_reason". What schemas.py checks. usage: answer_schemas MODEL
// MAX_TOKENS
#include <fmt/core.h>

#include <deque>
#include <iostream>

#include "base/error.h"
#include "chat/chat_model.h"

namespace smelt {

namespace {

constexpr size_t max_at_once = 24;

struct Pending {
    std::string refused;
    std::unique_ptr<Generation> generation;
};

void print(Pending& p) {
    Json line;
    if (!p.generation) {
        line["refused"] = p.refused;
    } else {
        std::string answer;
        while (const auto delta = p.generation->next()) answer += delta->answer;
        line["answer"] = answer;
        line["finish_reason"] = p.generation->finish_reason();
    }
    fmt::print("{}\n", to_string(line));
    std::fflush(stdout);
}

void run(const char* path, int max_tokens) {
    const auto model = ChatModel::open(path, {.n_ctx = 1024, .kv_tokens = 8192});
    const Prompt prompt = model->make_prompt(
        Json::array({{{"role", "user"}, {"content", "Answer in JSON."}}}), {.thinking = false});
    std::deque<Pending> pending;
    std::string line;
    for (uint64_t n = 0; std::getline(std::cin, line); ++n) {
        Pending& p = pending.emplace_back();
        auto compiled = model->compile(GrammarSpec::json_schema(parse_json(line, "schema")));
        if (const auto* error = std::get_if<GrammarError>(&compiled)) {
            p.refused = error->message();
        } else {
            GenerateOptions options{.max_tokens = max_tokens, .split_thinking = false};
            options.sampling = {.temperature = n % 4 == 0 ? 0.0f : 1.0f, .seed = n};
            options.grammar = std::get<std::shared_ptr<TokenGrammar>>(std::move(compiled));
            p.generation = model->generate(prompt, options);
        }
        if (pending.size() < max_at_once) continue;
        print(pending.front());
        pending.pop_front();
    }
    for (Pending& p : pending) print(p);
}

}  // namespace

}  // namespace smelt

int main(int argc, char** argv) {
    if (argc != 3) return fmt::print(stderr, "usage: answer_schemas MODEL MAX_TOKENS\n"), 2;
    try {
        smelt::run(argv[1], std::stoi(argv[2]));
    } catch (const std::exception& e) {
        return fmt::print(stderr, "{}\n", e.what()), 1;
    }
}
