// A token that means something else to one of them would never be accepted, or be taken for another.
#include "chat/draft_file.h"

#include <algorithm>
#include <cstdlib>

#include "base/error.h"
#include "base/log.h"

namespace smelt {

namespace {

void check_same_vocabulary(const Tokenizer& draft, const Tokenizer& large, const std::string& name) {
    constexpr int most_padding = 512;  // ids that nothing is encoded to, which some files have and others not
    const int n = std::min(draft.n_tokens(), large.n_tokens());
    if (std::abs(draft.n_tokens() - large.n_tokens()) > most_padding) {
        throw Error("draft model {}: expected the model's own vocabulary of {} tokens, found one of {}", name,
                    large.n_tokens(), draft.n_tokens());
    }
    for (int32_t id = 0; id < n; ++id) {
        if (draft.token_bytes(id) == large.token_bytes(id) && draft.is_special(id) == large.is_special(id))
            continue;
        const auto shown = [&](const Tokenizer& t) {
            return printable(std::string(t.token_bytes(id)), Lines::one);
        };
        throw Error(
            "draft model {}: expected the model's own vocabulary, in which token {} is \"{}\", found \"{}\"",
            name, id, shown(large), shown(draft));
    }
}

}  // namespace

OpenedDraft open_draft_model(const std::filesystem::path& path, const Tokenizer* large,
                             const ModelConfig& large_config, Backend& backend) {
    OpenedDraft draft{.file = open_model(path), .model = nullptr};
    const std::string name = draft.file->path.string();
    if (large != nullptr) check_same_vocabulary(load_tokenizer(*draft.file), *large, name);
    draft.model = load_model(draft.file, backend);
    const ModelConfig& config = draft.model->config();
    if (large == nullptr && config.vocab_size != large_config.vocab_size) {
        throw Error("draft model {}: expected the model's own vocabulary of {} tokens, found one of {}", name,
                    large_config.vocab_size, config.vocab_size);
    }
    if (config.recurrent) {
        throw Error("draft model {}: the layers of {} carry a state that a wrong guess would change", name,
                    config.architecture);
    }
    return draft;
}

}  // namespace smelt
