// smelt detokenize: token ids as JSON on stdin -> text.
#include "apps/hub_model.h"
#include "apps/stdin_text.h"
#include "apps/verbs.h"
#include "base/error.h"
#include "base/json.h"
#include "text/tokenizer.h"

namespace smelt {

namespace {

struct DetokenizeOptions {
    std::string model;
    bool skip_special = false;
};

std::vector<int32_t> read_ids(const Tokenizer& tokenizer) {
    const Json json = parse_json(read_stdin(), "standard input");
    if (!json.is_array()) throw Error("standard input: expected a JSON list of token ids");
    std::vector<int32_t> ids;
    for (const Json& item : json) {
        if (!item.is_number_integer() || item < 0 || item >= tokenizer.n_tokens()) {
            throw Error("standard input: entry {}: expected an id below {}, found {}", ids.size(),
                        tokenizer.n_tokens(), to_string(item));
        }
        ids.push_back(item.get<int32_t>());
    }
    return ids;
}

void detokenize(const DetokenizeOptions& o) {
    const Tokenizer tokenizer = load_tokenizer(std::filesystem::path(local_model(o.model)));
    const std::string text = tokenizer.decode(read_ids(tokenizer), o.skip_special);
    std::fwrite(text.data(), 1, text.size(), stdout);
}

}  // namespace

Verb add_detokenize(CLI::App& smelt) {
    auto o = std::make_shared<DetokenizeOptions>();
    CLI::App* verb = smelt.add_subcommand("detokenize", "Turn token ids on stdin (JSON) into text");
    add_model_argument(*verb, o->model)->required();
    verb->add_flag("--skip-special", o->skip_special, "Leave control tokens out");
    verb->footer("Example:\n  echo '[5074,4149]' | smelt detokenize models/demo-5m");
    return {verb, [o] { detokenize(*o); }};
}

}  // namespace smelt
