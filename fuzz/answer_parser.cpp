// Any text as a model's answer, in every format; the first byte picks it. However the text is cut, the same
// comes out, and without marks in it nothing gets lost.
#include <cstdint>

#include "base/error.h"
#include "chat/answer_parser.h"
#include "text/unicode.h"

namespace smelt {

namespace {

// Characters, but harmony's marks whole: they are tokens.
std::vector<std::string_view> pieces_of(std::string_view text, bool harmony) {
    std::vector<std::string_view> pieces;
    while (!text.empty()) {
        auto n = static_cast<size_t>(decode_utf8(text.data(), text.data() + text.size()).length);
        if (harmony && text.starts_with("<|")) {
            if (const size_t end = text.find("|>"); end != std::string_view::npos) n = end + 2;
        }
        pieces.push_back(text.substr(0, n));
        text.remove_prefix(n);
    }
    return pieces;
}

std::string parse(const std::vector<std::string>& pieces, const AnswerParserOptions& options) {
    const auto parser = make_answer_parser(options);
    TextDelta all;
    for (const std::string& piece : pieces) {
        parser->is_mark(piece) ? parser->mark(piece, all) : parser->text(piece, all);
    }
    parser->finish(all);
    std::string result = all.thinking + '\0' + all.answer;
    int index = -1;
    for (const ToolCallDelta& c : all.tool_calls) {
        CHECK(c.index == index || (c.index == index + 1 && !c.name.empty()), "call {} after {}", c.index,
              index);
        if (c.index != index) result += '\0' + c.name + '\0';
        result += c.arguments;
        index = c.index;
    }
    return result;
}

void run(std::string_view bytes, uint8_t choice) {
    const AnswerParserOptions options{.format = static_cast<AnswerFormat>(choice % 3),
                                      .starts_thinking = (choice & 0x10) != 0,
                                      .starts_final = (choice & 0x20) != 0,
                                      .tools = (choice & 0x40) != 0 ? Json::array() : Json()};
    const bool harmony = options.format == AnswerFormat::harmony;
    const std::string text = replace_broken_utf8(std::string(bytes));
    std::vector<std::string> apart, joined;
    for (const std::string_view piece : pieces_of(text, harmony)) {
        const bool mark = harmony && piece.size() > 4;
        apart.emplace_back(piece);
        if (mark || joined.empty() ||
            (harmony && joined.back().starts_with("<|") && joined.back().ends_with("|>"))) {
            joined.emplace_back(piece);
        } else {
            joined.back() += piece;
        }
    }
    const std::string whole = parse(joined, options);
    CHECK(parse(apart, options) == whole, "cut differently, parsed differently");
    if (options.format == AnswerFormat::plain) CHECK(whole == '\0' + text, "text got lost");
}

}  // namespace

}  // namespace smelt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size > 0) smelt::run({reinterpret_cast<const char*>(data + 1), size - 1}, data[0]);
    return 0;
}
