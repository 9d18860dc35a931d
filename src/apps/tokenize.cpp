// smelt tokenize: text on stdin -> token ids as JSON.
#include <fmt/format.h>

#include "apps/hub_model.h"
#include "apps/stdin_text.h"
#include "apps/verbs.h"
#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer.h"

namespace smelt {

namespace {

struct TokenizeOptions {
    std::string model;
    bool special = true;
    bool add_bos = false;
    bool show = false;
};

void tokenize(const TokenizeOptions& o) {
    const Tokenizer tokenizer = load_tokenizer(std::filesystem::path(local_model(o.model)));
    std::vector<int32_t> ids = tokenizer.encode(read_stdin(), {.parse_special = o.special});
    if (o.add_bos) {
        if (tokenizer.bos() < 0) throw Error("{}: the vocabulary has no BOS token", o.model);
        ids.insert(ids.begin(), tokenizer.bos());
    }
    fmt::memory_buffer out;
    const auto print = [&](std::string_view text) { out.append(text); };
    print("[");
    for (size_t i = 0; i < ids.size(); ++i) {
        if (i > 0) print(o.show ? ",\n " : ",");
        if (o.show) {
            const std::string piece(tokenizer.token_bytes(ids[i]));
            print(to_string(Json{{"id", ids[i]}, {"text", piece}}));
        } else {
            fmt::format_to(std::back_inserter(out), "{}", ids[i]);
        }
    }
    print("]\n");
    std::fwrite(out.data(), 1, out.size(), stdout);
}

}  // namespace

Verb add_tokenize(CLI::App& smelt) {
    auto o = std::make_shared<TokenizeOptions>();
    CLI::App* verb = smelt.add_subcommand("tokenize", "Turn text on stdin into token ids (JSON)");
    add_model_argument(*verb, o->model)->required();
    verb->add_flag("--special,!--no-special", o->special,
                   "Special tokens in the text become their id (default), or are text like any other");
    verb->add_flag("--add-bos", o->add_bos, "Put the vocabulary's BOS token in front");
    verb->add_flag("--show", o->show, "Each id with its text; bytes of a broken character show as U+FFFD");
    verb->footer("Example:\n  echo -n 'Hello world' | smelt tokenize models/demo-5m --show");
    return {verb, [o] { tokenize(*o); }};
}

}  // namespace smelt
