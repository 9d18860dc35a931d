#include "chat/text_stream.h"

#include <gtest/gtest.h>

#include <random>

namespace smelt {
namespace {

const Tokenizer& tokenizer() {
    static const Tokenizer t = load_tokenizer(std::filesystem::path(SMELT_MODELS "/demo-5m"));
    return t;
}

struct Result {
    std::string thinking, answer;
    bool stopped = false;
    bool operator==(const Result&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Result& r) {
    return out << "thinking \"" << r.thinking << "\" answer \"" << r.answer << "\" stopped " << r.stopped;
}

// Feeds the text cut into tokens at the given places.
Result stream(const std::vector<std::string>& pieces, const TextStreamOptions& options) {
    TextStream s(tokenizer(), options);
    Result r;
    const auto add = [&](const TextDelta& d) {
        r.thinking += d.thinking;
        r.answer += d.answer;
    };
    for (const std::string& piece : pieces) {
        for (const int32_t id : tokenizer().encode(piece)) add(s.push(id));
    }
    add(s.finish());
    r.stopped = s.stopped();
    return r;
}

// Every way to cut a short text in two, and one piece a byte: marks and stop strings cross token borders.
void expect_everywhere(const std::string& text, const TextStreamOptions& options, const Result& expected) {
    EXPECT_EQ(stream({text}, options), expected) << text;
    for (size_t i = 1; i < text.size(); ++i) {
        if ((text[i] & 0xc0) == 0x80) continue;  // encode() works on whole characters
        EXPECT_EQ(stream({text.substr(0, i), text.substr(i)}, options), expected) << text << " cut at " << i;
    }
    std::vector<std::string> characters;
    for (const char c : text) {
        if ((c & 0xc0) == 0x80) {
            characters.back() += c;
        } else {
            characters.emplace_back(1, c);
        }
    }
    EXPECT_EQ(stream(characters, options), expected) << text << " character by character";
}

TEST(TextStream, SeparatesThinkingFromTheAnswer) {
    expect_everywhere("<think>\nadd them\n</think>\n\n12 + 30 = 42", {}, {"add them", "12 + 30 = 42"});
    expect_everywhere("<think>\n\n</think>\n\nHi", {}, {"", "Hi"});
    expect_everywhere("plain < text <thin air", {}, {"", "plain < text <thin air"});
    expect_everywhere("open until the end</thin", {.parser = {.starts_thinking = true}},
                      {"open until the end</thin", ""});
    expect_everywhere("so</think>yes", {.parser = {.starts_thinking = true}}, {"so", "yes"});
    // Only the beginning of an answer can open the thinking.
    expect_everywhere("write <think> here", {}, {"", "write <think> here"});
    expect_everywhere("<think>a</think>b", {.parser = {.format = AnswerFormat::plain}},
                      {"", "<think>a</think>b"});
    expect_everywhere("<thi", {}, {"", "<thi"});
}

TEST(TextStream, StopsBeforeAStopString) {
    expect_everywhere("one two three", {.stop = {"two"}}, {"", "one ", true});
    expect_everywhere("one two three", {.stop = {"three", "two t"}}, {"", "one ", true});
    expect_everywhere("aaab", {.stop = {"aab"}}, {"", "a", true});
    expect_everywhere("Zürich — 你好", {.stop = {"你"}}, {"", "Zürich — ", true});
    expect_everywhere("no stop her", {.stop = {"here"}}, {"", "no stop her"});
    expect_everywhere("<think>stop</think>go stop", {.stop = {"stop"}}, {"stop", "go ", true});
    expect_everywhere("text", {.stop = {""}}, {"", "text"});
}

TEST(TextStream, LosesAndAddsNothing) {
    std::mt19937 random(3);
    const std::string parts[] = {"a", "<",    "think", ">",     "/",  "</think>",
                                 "é", "🙂", "\n",    " stop", "st", "op"};
    for (int round = 0; round < 500; ++round) {
        std::string text = "x";
        std::vector<std::string> pieces = {text};
        for (int i = 0; i < 12; ++i) {
            pieces.push_back(parts[random() % std::size(parts)]);
            text += pieces.back();
        }
        const size_t at = text.find("stop");
        const Result expected = {"", text.substr(0, at), at != std::string::npos};
        ASSERT_EQ(stream(pieces, {.stop = {"stop"}}), expected) << text;
    }
}

}  // namespace
}  // namespace smelt
