// Qwen's, StarCoder's, CodeLlama's, DeepSeek's and Granite's marks; the order is prefix, suffix, middle.
#include "server/dialects/fill_in.h"

#include <algorithm>

#include "server/api_error.h"
#include "text/vocabulary.h"

namespace smelt {

namespace {

int32_t find_any(const Tokenizer& tokenizer, std::initializer_list<const char*> names) {
    for (const char* name : names) {
        if (const int32_t id = tokenizer.find(name); id >= 0) return id;
    }
    return -1;
}

}  // namespace

std::vector<int32_t> FillInMarks::ends() const {
    std::vector<int32_t> ids;
    for (const int32_t id : {prefix, suffix, middle, repository, file, pad}) {
        if (id >= 0) ids.push_back(id);
    }
    return ids;
}

FillInMarks fill_in_marks(const Tokenizer& t) {
    return {
        .prefix = find_any(t, {"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<PRE>", "\xe2\x96\x81<PRE>",
                               "<\xef\xbd\x9c"
                               "fim\xe2\x96\x81"
                               "begin\xef\xbd\x9c>"}),
        .suffix = find_any(t, {"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<SUF>", "\xe2\x96\x81<SUF>",
                               "<\xef\xbd\x9c"
                               "fim\xe2\x96\x81hole\xef\xbd\x9c>"}),
        .middle = find_any(t, {"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<MID>", "\xe2\x96\x81<MID>",
                               "<\xef\xbd\x9c"
                               "fim\xe2\x96\x81"
                               "end\xef\xbd\x9c>"}),
        .repository = find_any(t, {"<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"}),
        .file = find_any(t, {"<|file_sep|>", "<file_sep>", "<FILE_SEP>"}),
        .pad = find_any(t, {"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>"})};
}

std::vector<int32_t> fill_in_prompt(const ChatModel& model, const FillIn& parts) {
    const Tokenizer& t = model.tokenizer();
    const FillInMarks marks = fill_in_marks(t);
    if (!marks.usable()) {
        throw RequestError(
            {.status = 501,
             .code = "not_supported",
             .message = "the model has no marks for prefix, suffix and middle, so it cannot fill in",
             .param = "suffix"});
    }
    std::vector<int32_t> ids;
    const auto mark = [&](int32_t id) {
        if (id >= 0) ids.push_back(id);
    };
    // What people write is text, whatever mark it looks like. Qwen's marks are no control tokens, so that a
    // tokenizer always finds them: the text is cut inside of each.
    const auto text = [&](const std::string& words) {
        for (std::string_view rest = words; !rest.empty();) {
            size_t cut = rest.size();
            for (const int32_t id : marks.ends()) {
                const size_t at = rest.find(t.token_bytes(id));
                if (at != std::string_view::npos) cut = std::min(cut, at + 1);
            }
            const std::vector<int32_t> more = t.encode(rest.substr(0, cut), {.parse_special = false});
            ids.insert(ids.end(), more.begin(), more.end());
            rest.remove_prefix(cut);
        }
    };
    if (t.vocabulary().add_bos) mark(t.bos());
    if (!parts.extras.empty()) {
        if (marks.repository >= 0) {
            mark(marks.repository);
            text("project\n");
        }
        for (const FillIn::Extra& e : parts.extras) {
            mark(marks.file);
            text(e.filename + "\n" + e.text);
        }
        if (marks.file >= 0) {
            mark(marks.file);
            text("filename\n");
        }
    }
    mark(marks.prefix);
    text(parts.prefix);
    mark(marks.suffix);
    text(parts.suffix);
    mark(marks.middle);
    text(parts.begun);
    return ids;
}

}  // namespace smelt
