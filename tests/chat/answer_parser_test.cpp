// Answers in every format, cut in every way: whatever the pieces, the same thinking, text and calls.
#include "chat/answer_parser.h"

#include <gtest/gtest.h>

#include <random>

#include "base/error.h"
#include "chat/argument_types.h"
#include "chat/call_grammar.h"
#include "chat/text_stream.h"
#include "chat/tool_call_text.h"
#include "text/text_support.h"

namespace smelt {
namespace {

struct Parsed {
    std::string thinking, answer;
    std::vector<ToolCall> calls = {};
    bool operator==(const Parsed&) const = default;
};
std::ostream& operator<<(std::ostream& out, const Parsed& p) {
    out << "thinking \"" << p.thinking << "\" answer \"" << p.answer << "\"";
    for (const ToolCall& c : p.calls) out << " call " << c.name << " " << c.arguments;
    return out;
}

void add(Parsed& p, const TextDelta& d) {
    p.thinking += d.thinking;
    p.answer += d.answer;
    for (const ToolCallDelta& c : d.tool_calls) {
        ASSERT_GE(c.index, 0);
        if (static_cast<size_t>(c.index) == p.calls.size()) p.calls.push_back({c.name, ""});
        ASSERT_EQ(static_cast<size_t>(c.index), p.calls.size() - 1) << "calls come one after the other";
        p.calls.back().arguments += c.arguments;
    }
}

Parsed parse(const std::vector<std::string>& pieces, const AnswerParserOptions& options) {
    const auto parser = make_answer_parser(options);
    Parsed result;
    for (const std::string& piece : pieces) {
        TextDelta delta;
        if (parser->is_mark(piece)) {
            parser->mark(piece, delta);
        } else {
            parser->text(piece, delta);
        }
        add(result, delta);
    }
    TextDelta delta;
    parser->finish(delta);
    add(result, delta);
    return result;
}

// What may not be cut: harmony's marks, which are tokens.
std::vector<std::string> atoms(const std::string& text, bool harmony) {
    std::vector<std::string> result;
    for (size_t i = 0; i < text.size();) {
        size_t n = 1;
        if (harmony && text.compare(i, 2, "<|") == 0) {
            if (const size_t end = text.find("|>", i); end != std::string::npos) n = end + 2 - i;
        }
        result.push_back(text.substr(i, n));
        i += n;
    }
    return result;
}

std::vector<std::string> joined(const std::vector<std::string>& pieces,
                                const std::function<bool(size_t)>& cut_before, bool harmony) {
    std::vector<std::string> result;
    const auto is_mark = [&](const std::string& s) { return harmony && s.size() > 2; };
    for (size_t i = 0; i < pieces.size(); ++i) {
        const bool apart = i == 0 || is_mark(pieces[i]) || is_mark(pieces[i - 1]) || cut_before(i);
        if (apart) {
            result.push_back(pieces[i]);
        } else {
            result.back() += pieces[i];
        }
    }
    return result;
}

void expect_however_cut(const std::string& text, const AnswerParserOptions& options, const Parsed& expected) {
    const bool harmony = options.format == AnswerFormat::harmony;
    const auto pieces = atoms(text, harmony);
    const auto never = [](size_t) { return false; };
    EXPECT_EQ(parse(joined(pieces, never, harmony), options), expected) << text;
    EXPECT_EQ(parse(pieces, options), expected) << text << " character by character";
    for (size_t cut = 1; cut < pieces.size(); ++cut) {
        const auto here = [&](size_t i) { return i == cut; };
        ASSERT_EQ(parse(joined(pieces, here, harmony), options), expected) << text << " cut at " << cut;
    }
    std::mt19937 rng(1);
    for (int round = 0; round < 100; ++round) {
        const auto often = [&](size_t) { return rng() % 4 == 0; };
        ASSERT_EQ(parse(joined(pieces, often, harmony), options), expected) << text;
    }
}

const Json tools = parse_json(R"([{"type": "function", "function": {"name": "weather", "parameters":
    {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}}])",
                              "tools");

AnswerParserOptions harmony(bool with_tools = true) {
    return {.format = AnswerFormat::harmony, .tools = with_tools ? tools : Json()};
}

TEST(Harmony, ThinkingThenAnswer) {
    expect_however_cut(
        "<|channel|>analysis<|message|>They "
        "greet.\n<|end|><|start|>assistant<|channel|>final<|message|>Hello <b>\n"
        "\xe4\xbd\xa0!<|return|>",
        harmony(), {"They greet.\n", "Hello <b>\n\xe4\xbd\xa0!"});
    expect_however_cut("<|channel|>final<|message|>Hi", harmony(), {"", "Hi"});
    expect_however_cut("Hi", {.format = AnswerFormat::harmony, .starts_final = true}, {"", "Hi"});
}

TEST(Harmony, Calls) {
    const std::string arguments = R"({"city": "Rome", "days": 2})";
    for (const std::string head : {"<|channel|>commentary to=functions.weather <|constrain|>json",
                                   " to=functions.weather<|channel|>commentary <|constrain|>json",
                                   " to=functions.weather<|channel|>commentary json",
                                   "<|channel|>commentary json to=functions.weather",
                                   "<|channel|>analysis to=functions.weather code"}) {
        expect_however_cut(head + "<|message|>" + arguments + "<|call|>", harmony(),
                           {"", "", {{"weather", arguments}}});
    }
    expect_however_cut(
        "<|channel|>analysis<|message|>I look.<|end|><|start|>assistant<|channel|>commentary<|message|>One "
        "moment.<|end|><|start|>assistant<|channel|>commentary to=functions.weather "
        "<|constrain|>json<|message|>{}"
        "<|call|><|start|>assistant to=browser.search<|channel|>commentary<|message|>{\"q\": 1}<|call|>",
        harmony(), {"I look.", "One moment.", {{"weather", "{}"}, {"browser.search", "{\"q\": 1}"}}});
    expect_however_cut("<|channel|>commentary to=functions.weather<|message|>{}<|call|>", harmony(false),
                       {"", "{}"});
}

TEST(Harmony, ArgumentsAreStreamed) {
    const auto parser = make_answer_parser(harmony());
    TextDelta delta;
    for (const char* piece : {"<|channel|>", "commentary to=functions.weather", "<|message|>"}) {
        parser->is_mark(piece) ? parser->mark(piece, delta) : parser->text(piece, delta);
    }
    ASSERT_EQ(delta.tool_calls.size(), 1u);
    EXPECT_EQ(delta.tool_calls[0].name, "weather");
    delta = {};
    parser->text("{\"ci", delta);
    ASSERT_EQ(delta.tool_calls.size(), 1u);
    EXPECT_EQ(delta.tool_calls[0].arguments, "{\"ci");
    EXPECT_EQ(delta.tool_calls[0].name, "");
}

TEST(Harmony, OddTextIsAnswer) {
    for (const char* text : {"Hello to you", "to", " to be", "assistant", "{}", "to=be or", "a\nb"}) {
        std::string shown = text;
        shown.erase(0, shown.find_first_not_of(' '));
        expect_however_cut(text, harmony(), {"", shown});
    }
    expect_however_cut("", harmony(), {});
    // No end, no message, unknown channels, text between messages.
    expect_however_cut("<|channel|>analysis<|message|>Hm<|channel|>final<|message|>So", harmony(),
                       {"Hm", "So"});
    expect_however_cut("<|channel|>final Hello there my friend", harmony(), {"", "Hello there my friend"});
    expect_however_cut("<|channel|>final\n\nHello", harmony(), {"", "Hello"});
    expect_however_cut("<|channel|>poetry<|message|>Roses", harmony(), {"", "Roses"});
    expect_however_cut("<|message|>Roses<|message|>red", harmony(), {"", "Rosesred"});
    expect_however_cut("<|channel|>final<|message|>One<|end|>Two<|start|>Three four", harmony(),
                       {"", "One\n\nTwo\n\nThree four"});
    expect_however_cut(
        "<|channel|>analysis<|message|>A<|end|><|start|>assistant<|channel|>analysis<|message|>B<|end|>",
        harmony(), {"A\n\nB", ""});
    // Cut off by the limit of tokens.
    expect_however_cut("<|channel|>analysis<|message|>A<|end|><|start|>assistant", harmony(), {"A", ""});
    expect_however_cut("<|channel|>commentary to=functions.weather <|constrain|>js", harmony(), {});
    expect_however_cut("<|end|><|end|><|call|><|start|><|channel|><|constrain|><|message|><|return|>",
                       harmony(), {});
}

TEST(Harmony, AnySequenceOfMarksAndTextsIsCutIndependent) {
    const std::string_view parts[] = {"<|start|>",   "<|channel|>", "<|constrain|>",
                                      "<|message|>", "<|end|>",     "<|return|>",
                                      "<|call|>",    "assistant",   "analysis",
                                      "final",       "commentary ", " to=functions.x",
                                      "json",        " ",           "\n",
                                      "Hello world", "to="};
    std::mt19937 rng(5);
    for (int round = 0; round < 3000; ++round) {
        std::string text;
        for (uint32_t n = rng() % 12; n > 0; --n) text += parts[rng() % std::size(parts)];
        for (const bool with_tools : {true, false}) {
            const auto pieces = atoms(text, true);
            const auto often = [&](size_t) { return rng() % 3 == 0; };
            const Parsed expected = parse(joined(
                                              pieces, [](size_t) { return false; }, true),
                                          harmony(with_tools));
            ASSERT_EQ(parse(pieces, harmony(with_tools)), expected) << text;
            ASSERT_EQ(parse(joined(pieces, often, true), harmony(with_tools)), expected) << text;
        }
    }
}

// Marks are control tokens; the same characters as text mean nothing.
TEST(Harmony, ThroughTokens) {
    Vocabulary v = byte_vocabulary();
    std::vector<int32_t> marks;
    for (const char* mark : {"<|channel|>", "<|message|>", "<|end|>", "<|start|>"}) {
        marks.push_back(add_token(v, mark, TokenType::control));
        v.added.push_back({.id = marks.back(), .special = true});
    }
    const Tokenizer tokenizer(v);
    TextStream stream(tokenizer, {.stop = {"STOP"}, .parser = harmony()});
    TextDelta all;
    const auto text = [&](std::string_view s) {
        for (const int32_t id : tokenizer.encode(s, {.parse_special = false})) all.append(stream.push(id));
    };
    all.append(stream.push(marks[0]));
    text("analysis");
    all.append(stream.push(marks[1]));
    text("Do not STOP");
    all.append(stream.push(marks[2]));
    all.append(stream.push(marks[3]));
    text("assistant");
    all.append(stream.push(marks[0]));
    text("final");
    all.append(stream.push(marks[1]));
    text("The mark <|end|> ends. STOP here");
    all.append(stream.finish());
    EXPECT_EQ(all.thinking, "Do not STOP");
    EXPECT_EQ(all.answer, "The mark <|end|> ends. ");
    EXPECT_TRUE(stream.stopped());
}

AnswerParserOptions marks(bool with_tools = true) {
    return {.tools = with_tools ? tools : Json()};
}

TEST(Marks, HermesCalls) {
    const std::string call =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>";
    const ToolCall expected{"weather", R"({"city":"Rome"})"};
    expect_however_cut("<think>\nI look.\n</think>\n\n" + call, marks(), {"I look.", "", {expected}});
    expect_however_cut("One moment.\n" + call + "\n" + call + "\n", marks(),
                       {"", "One moment.", {expected, expected}});
    expect_however_cut(call + "\n\nDone. ", marks(), {"", "Done. ", {expected}});
    expect_however_cut("Rome < Paris <tool", marks(), {"", "Rome < Paris <tool"});
    expect_however_cut(call, marks(false), {"", call});
    expect_however_cut("<think>" + call + "</think>Hi", marks(), {call, "Hi"});
    // The end of the turn instead of the mark.
    expect_however_cut(call.substr(0, call.size() - 12), marks(), {"", "", {expected}});
}

TEST(Marks, HeldCallsAreTold) {
    const AnswerParserOptions options{.tools = tools, .calls_are_held = true};
    const std::string arguments = R"({"city": "R\"o]}me", "days": [{"n": 2}, {}]})";
    const auto call = [&](const std::string& name) {
        return "<tool_call>\n{\"name\": \"" + name + "\", \"arguments\": " + arguments + "}\n</tool_call>";
    };
    expect_however_cut("I look. " + call("weather") + "\n" + call("b"), options,
                       {"", "I look.", {{"weather", arguments}, {"b", arguments}}});
    // An answer that was cut off has what there was of the call.
    expect_however_cut("<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Ro", options,
                       {"", "", {{"weather", "{\"city\": \"Ro"}}});
    expect_however_cut("<tool_call>\n{\"name\": \"wea", options, {"", ""});

    const auto parser = make_answer_parser(options);
    TextDelta delta;
    parser->text("<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\"", delta);
    ASSERT_EQ(delta.tool_calls.size(), 1u);
    EXPECT_EQ(delta.tool_calls[0].name, "weather");
    EXPECT_EQ(delta.tool_calls[0].arguments, "{\"city\"");
    delta = {};
    parser->text(": \"Rome", delta);
    ASSERT_EQ(delta.tool_calls.size(), 1u);
    EXPECT_EQ(delta.tool_calls[0].name, "");
    EXPECT_EQ(delta.tool_calls[0].arguments, ": \"Rome");
}

TEST(Marks, MistralCalls) {
    const AnswerParserOptions options{.tools = tools, .calls = CallStyle::mistral};
    const std::string arguments = R"({"city":"Rome"})";
    expect_however_cut("I look.\n[TOOL_CALLS][{\"name\": \"weather\", \"arguments\": " + arguments +
                           ", \"id\": \"abcdefghi\"}, {\"name\": \"b\", \"arguments\": {}}]",
                       options, {"", "I look.", {{"weather", arguments}, {"b", "{}"}}});
    expect_however_cut("[TOOL_CALLS]weather[ARGS]" + arguments + "[TOOL_CALLS]b[ARGS]{}", options,
                       {"", "", {{"weather", arguments}, {"b", "{}"}}});
    expect_however_cut("[TOOL_CALLS] no call", options, {"", "[TOOL_CALLS] no call"});
    expect_however_cut("<tool_call> [TOOL is text", options, {"", "<tool_call> [TOOL is text"});
}

TEST(Marks, DeepSeekCalls) {
    const AnswerParserOptions options{.tools = tools, .calls = CallStyle::deepseek};
    const std::string arguments = R"({"city":"Rome"})";
    const std::string open = "<｜tool▁calls▁begin｜>", close = "<｜tool▁calls▁end｜>";
    const auto call = [&](const std::string& head, const std::string& body) {
        return "<｜tool▁call▁begin｜>" + head + "<｜tool▁sep｜>" + body + "<｜tool▁call▁end｜>";
    };
    expect_however_cut("I look.\n" + open + call("weather", arguments) + call("b", "{}") + close, options,
                       {"", "I look.", {{"weather", arguments}, {"b", "{}"}}});
    const std::string fence = "\n```json\n" + arguments + "\n```";
    expect_however_cut(
        open + call("function", "weather" + fence) + "\n" + call("function", "b\n```json\n{}\n```") + close,
        options, {"", "", {{"weather", arguments}, {"b", "{}"}}});
    // The end of the calls stands in a value.
    const std::string odd = R"({"city":"<｜tool▁calls▁end｜>"})";
    expect_however_cut(open + call("weather", odd) + close + " more", options,
                       {"", "more", {{"weather", odd}}});
    expect_however_cut(open + " no call" + close, options, {"", open + " no call" + close});
    expect_however_cut("<tool_call> is text", options, {"", "<tool_call> is text"});
}

TEST(Marks, LlamaCalls) {
    const AnswerParserOptions options{.tools = tools, .calls = CallStyle::llama};
    const std::string arguments = R"({"city":"Rome; or {"})";
    const std::string call = R"({"name": "weather", "parameters": )" + arguments + "}";
    expect_however_cut(call, options, {"", "", {{"weather", arguments}}});
    expect_however_cut(" <|python_tag|>" + call + "; " + call, options,
                       {"", "", {{"weather", arguments}, {"weather", arguments}}});
    for (const char* text : {R"({"name": "Rome", "parameters": {}})", R"({"city": "Rome"})", "{ is a brace",
                             "<|python", "Rome {\"name\": \"weather\", \"parameters\": {}}"}) {
        expect_however_cut(text, options, {"", text});
    }
}

TEST(Marks, LlamaCallsOnLines) {
    const AnswerParserOptions options{.tools = tools, .calls = CallStyle::llama};
    const std::string call = R"({"name": "weather", "parameters": {"city":"Rome"}})";
    const ToolCall expected{"weather", R"({"city":"Rome"})"};
    for (const char* between : {"; ", ";", "\n", ";\n", ", ", "\n\n", ""}) {
        expect_however_cut(call + between + call, options, {"", "", {expected, expected}});
    }
    expect_however_cut("[" + call + ", " + call + "]", options, {"", "[" + call + ", " + call + "]"});
    expect_however_cut(call + "\nThat is it.", options, {"", "That is it.", {expected}});
    expect_however_cut(R"({"type": "function", "function": "weather", "parameters": {"city": "Rome"}})",
                       options, {"", "", {expected}});
    expect_however_cut(R"({"type": "function", "name": "weather", "parameters": {"city": "Rome"}}})", options,
                       {"", "", {expected}});
}

TEST(Marks, AClosingMarkWithinAValueEndsNothing) {
    const std::string inner = R"({"city":"<tool_call> ends with </tool_call> or \"</tool_call>\""})";
    const std::string call =
        "<tool_call>\n{\"name\": \"weather\", \"arguments\": " + inner + "}\n</tool_call>";
    expect_however_cut(call + "\n" + call + "x", marks(),
                       {"", "x", {{"weather", inner}, {"weather", inner}}});
    // A quote that nothing closes: the first mark is the end after all.
    expect_however_cut("<tool_call>{\"name: 3}</tool_call> and </tool_call> more", marks(),
                       {"", "<tool_call>{\"name: 3}</tool_call> and </tool_call> more"});
    expect_however_cut(
        "<tool_call>weather<arg_key>city</arg_key><arg_value>a </tool_call> b</arg_value></tool_call>",
        marks(), {"", "", {{"weather", R"({"city":"a </tool_call> b"})"}}});
    expect_however_cut(
        "<tool_call>weather<arg_key>city</arg_key><arg_value>a</arg_value> b</arg_value></tool_call>",
        marks(), {"", "", {{"weather", R"({"city":"a</arg_value> b"})"}}});
    AnswerParserOptions coder = marks();
    coder.calls = CallStyle::coder;
    expect_however_cut(
        "<tool_call>\n<function=weather>\n<parameter=city>\n</tool_call> and </parameter> and </function>\n"
        "</parameter>\n</function>\n</tool_call>",
        coder, {"", "", {{"weather", R"({"city":"</tool_call> and </parameter> and </function>"})"}}});
}

TEST(Marks, WhatIsMeantIsRead) {
    const auto call = [](const std::string& json) { return "<tool_call>\n" + json + "\n</tool_call>"; };
    const struct {
        std::string json, arguments;
    } cases[] = {
        {"{\"name\": \"f\", \"arguments\": {\"a\": \"x\ny\tz\"}}", R"({"a":"x\ny\tz"})"},
        {R"({"name": "f", "arguments": {"a": 1}}})", R"({"a":1})"},
        {R"({"name": "f", "arguments": {"a": 1})", R"({"a":1})"},
        {R"({"name": "f", "arguments": {"a": [1, 2,], }})", R"({"a":[1,2]})"},
        {R"({'name': 'f', 'arguments': {'a': True, 'b': None, 'c': 'it\'s'}})",
         R"({"a":true,"b":null,"c":"it's"})"},
        {R"({"name": "f", "arguments": {"a": "\d+ \."}})", R"({"a":"\\d+ \\."})"},
        {R"({"name": "f", "arguments": {"a": "say "hi" now"}})", R"({"a":"say \"hi\" now"})"},
        {R"({"function": {"name": "f", "arguments": {"a": 1}}})", R"({"a":1})"},
        {R"({"name": "f", "arguments": {"a": "\ud83d\ude00é
"}})",
         "{\"a\":\"😀é\\n\"}"},
    };
    for (const auto& c : cases) expect_however_cut(call(c.json), marks(), {"", "", {{"f", c.arguments}}});
    const std::string one = R"({"name": "f", "arguments": {"a": 1}})";
    const ToolCall expected{"f", R"({"a":1})"};
    expect_however_cut(call(one + "\n" + one), marks(), {"", "", {expected, expected}});
    expect_however_cut(call(one + " Done."), marks(), {"", "Done.", {expected}});
    // An answer that was cut off is no call: what it would have asked for is not known.
    expect_however_cut("<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1", marks(),
                       {"", "<tool_call>{\"name\": \"f\", \"arguments\": {\"a\": 1"});
}

TEST(Marks, ACallWithoutItsMarks) {
    AnswerParserOptions coder = marks();
    coder.calls = CallStyle::coder;
    const std::string call = "<function=weather>\n<parameter=city>\n12\n</parameter>\n</function>";
    const ToolCall expected{"weather", R"({"city":"12"})"};
    for (const char* close : {"", "\n</tool_call>", "</tool_call>\n"}) {
        expect_however_cut(call + close, coder, {"", "", {expected}});
        expect_however_cut("I look.\n\n" + call + close, coder, {"", "I look.", {expected}});
        expect_however_cut(call + close + "\n" + call + close, coder, {"", "", {expected, expected}});
    }
    expect_however_cut(call + "\nDone", coder, {"", "Done", {expected}});
    for (const char* text : {"<function=nope>\n</function>", "Write <function=weather and so on",
                             "<function=", "a <func", "<function=weather>", "<function=weather> is a mark"}) {
        expect_however_cut(text, coder, {"", text});
    }
    // Hermes: the whole answer is JSON that calls one of the request's functions.
    const std::string json = R"({"name": "weather", "arguments": {"city": "Rome"}})";
    expect_however_cut(json, marks(), {"", "", {{"weather", R"({"city":"Rome"})"}}});
    expect_however_cut(json + "\n</tool_call>", marks(), {"", "", {{"weather", R"({"city":"Rome"})"}}});
    for (const char* text : {R"({"name": "Rome", "arguments": {}})", R"({"name": "weather", "city": 3})", "{",
                             "{\"name\"", R"({"name": "weather")", "{ \"a\": 1}"}) {
        expect_however_cut(text, marks(), {"", text});
    }
}

TEST(Marks, ForgottenMarksOfParameters) {
    AnswerParserOptions coder = marks();
    coder.calls = CallStyle::coder;
    const ToolCall expected{"weather", R"({"city":"Rome","days":2})"};
    for (const char* text : {"<tool_call>\n<function=weather>\n<parameter=city>\nRome\n<parameter=days>\n2\n<"
                             "/parameter>\n</function>\n</tool_call>",
                             "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</"
                             "parameter>\n<parameter=days>\n2\n</function>\n</tool_call>"}) {
        expect_however_cut(text, coder, {"", "", {expected}});
    }
}

TEST(Arguments, HaveTheTypesOfTheirSchema) {
    const Json tool = Json::parse(R"json([{"type": "function", "function": {"name": "f", "parameters": {
        "type": "object", "$defs": {"s": {"type": "string"}, "n": {"type": "integer"}, "e": {"enum": ["1", "2"]}},
        "properties": {
            "s": {"type": "string"}, "ref": {"$ref": "#/$defs/s"}, "or_null": {"type": ["string", "null"]},
            "union": {"anyOf": [{"type": "integer"}, {"$ref": "#/$defs/s"}]}, "nullable": {"type": "string", "nullable": true},
            "enum": {"enum": ["1", "true"]}, "enum_ref": {"allOf": [{"$ref": "#/$defs/e"}]}, "numbers": {"enum": [1, 2]},
            "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": "boolean"}, "i_ref": {"$ref": "#/$defs/n"},
            "i_null": {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "list": {"type": "array"},
            "object": {"type": "object"}, "nested": {"properties": {"x": {"type": "string"}}}, "open": {"description": "d"}}}}}])json");
    const struct {
        const char *key, *text, *expected;
    } cases[] = {
        {"s", "12", "\"12\""},
        {"s", "true", "\"true\""},
        {"s", "{\"a\": 1}", "\"{\\\"a\\\": 1}\""},
        {"s", "null", "\"null\""},
        {"ref", "12", "\"12\""},
        {"or_null", "12", "\"12\""},
        {"or_null", "null", "null"},
        {"or_null", "None", "null"},
        {"union", "12", "\"12\""},
        {"nullable", "12", "\"12\""},
        {"nullable", "null", "null"},
        {"enum", "1", "\"1\""},
        {"enum", "true", "\"true\""},
        {"enum_ref", "2", "\"2\""},
        {"numbers", "2", "2"},
        {"i", " 12 ", "12"},
        {"i", "\"12\"", "12"},
        {"i", "twelve", "\"twelve\""},
        {"i_ref", "12", "12"},
        {"n", "1.5", "1.5"},
        {"b", "True", "true"},
        {"b", "false", "false"},
        {"b", "FALSE", "false"},
        {"i_null", "None", "null"},
        {"i_null", "3", "3"},
        {"list", "[1, \"a\"]", "[1,\"a\"]"},
        {"list", "['a', True, None]", "[\"a\",true,null]"},
        {"list", "\"[1, 2]\"", "[1,2]"},
        {"object", "{'a': {'b': False}}", "{\"a\":{\"b\":false}}"},
        {"object", "{\"a\": \"x\ny\"}", "{\"a\":\"x\\ny\"}"},
        {"nested", "{\"x\": \"1\"}", "{\"x\":\"1\"}"},
        {"open", "12", "12"},
        {"open", "None", "\"None\""},
        {"undeclared", "[1]", "[1]"},
        {"undeclared", "word", "\"word\""},
    };
    for (const auto& c : cases)
        EXPECT_EQ(to_string(argument_value(tool, "f", c.key, c.text)), c.expected) << c.key << " " << c.text;
}

// A grammar of calls writes what the parser reads.
TEST(CallGrammar, ArgumentsStandAsTheirParserTakesThem) {
    Json tool =
        Json::parse(R"json({"type": "function", "function": {"name": "f", "parameters": {"type": "object",
        "$defs": {"s": {"type": "string"}}, "required": ["s"], "properties": {"s": {"$ref": "#/$defs/s"},
            "u": {"anyOf": [{"type": "integer"}, {"type": "string"}]}, "n": {"type": "integer"},
            "e": {"enum": ["a b", "c"]}, "z": {"type": ["string", "null"]}, "o": {"type": "object"}}}}})json");
    const auto grammar_of = [&](CallStyle style) {
        const CallRules rules{.tools = Json::array({tool}), .must_call = true, .all_held = true};
        const auto compiled = compile_grammar(answer_grammar({.style = style}, std::nullopt, rules));
        EXPECT_TRUE(std::holds_alternative<Grammar>(compiled));
        return std::get<Grammar>(compiled);
    };
    const Grammar coder = grammar_of(CallStyle::coder), glm = grammar_of(CallStyle::glm);
    const auto coder_call = [](const std::vector<std::pair<std::string, std::string>>& arguments) {
        std::string text = "<tool_call>\n<function=f>\n";
        for (const auto& [key, value] : arguments)
            text += "<parameter=" + key + ">\n" + value + "\n</parameter>\n";
        return text + "</function>\n</tool_call>";
    };
    const auto glm_call = [](const std::vector<std::pair<std::string, std::string>>& arguments) {
        std::string text = "<tool_call>f";
        for (const auto& [key, value] : arguments)
            text += "<arg_key>" + key + "</arg_key><arg_value>" + value + "</arg_value>";
        return text + "</tool_call>";
    };
    const std::vector<std::pair<std::string, std::string>> all = {
        {"s", "12"}, {"u", "12"}, {"n", "12"}, {"e", "a b"}, {"z", "null"}, {"o", R"({"x": "y"})"}};
    const ToolCall expected{"f", R"({"s":"12","u":"12","n":12,"e":"a b","z":null,"o":{"x":"y"}})"};
    AnswerParserOptions options{.tools = Json::array({tool}), .calls = CallStyle::coder};
    EXPECT_TRUE(accepts(coder, coder_call(all)));
    expect_however_cut(coder_call(all), options, {"", "", {expected}});
    EXPECT_TRUE(accepts(glm, glm_call(all)));
    options.calls = CallStyle::glm;
    expect_however_cut(glm_call(all), options, {"", "", {expected}});
    for (const auto& [key, value] : {std::pair("n", "x"), {"e", "d"}, {"o", "[1]"}}) {
        EXPECT_FALSE(accepts(coder, coder_call({{"s", "x"}, {key, value}}))) << key;
        EXPECT_FALSE(accepts(glm, glm_call({{"s", "x"}, {key, value}}))) << key;
    }
    EXPECT_FALSE(accepts(coder, coder_call({{"n", "1"}})));

    // What bare text cannot keep is left out and said, unless the tool is strict.
    tool["function"]["parameters"]["properties"]["s"] = {{"type", "string"}, {"pattern", "^a"}};
    const Grammar lenient = grammar_of(CallStyle::coder);
    const auto& said = grammar_warnings(lenient);
    ASSERT_EQ(said.size(), 1u);
    EXPECT_NE(said[0].find("s: pattern"), std::string::npos) << said[0];
    tool["function"]["strict"] = true;
    EXPECT_THROW(grammar_of(CallStyle::coder), Error);
    EXPECT_THROW(grammar_of(CallStyle::glm), Error);
}

TEST(CallGrammar, DeepSeekCallsAreThoseThatTheParserReads) {
    const Json tool = Json::parse(
        R"({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "required": ["s"],
            "properties": {"s": {"type": "string"}}}}})");
    const CallRules rules{
        .tools = Json::array({tool}), .must_call = true, .parallel = true, .all_held = true};
    const auto compiled =
        compile_grammar(answer_grammar({.style = CallStyle::deepseek}, std::nullopt, rules));
    ASSERT_TRUE(std::holds_alternative<Grammar>(compiled));
    const std::string call = "<｜tool▁call▁begin｜>f<｜tool▁sep｜>{\"s\": \"a\"}<｜tool▁call▁end｜>";
    const std::string text = "<｜tool▁calls▁begin｜>" + call + call + "<｜tool▁calls▁end｜>";
    EXPECT_TRUE(accepts(std::get<Grammar>(compiled), text));
    const ToolCall expected{"f", R"({"s":"a"})"};
    expect_however_cut(text, {.tools = Json::array({tool}), .calls = CallStyle::deepseek},
                       {"", "", {expected, expected}});
}

TEST(Marks, TemplatesShowTheStyle) {
    EXPECT_EQ(call_style_of("a <tool_call> {", AnswerFormat::marks), CallStyle::json);
    EXPECT_EQ(call_style_of("a <tool_call><function=", AnswerFormat::marks), CallStyle::coder);
    EXPECT_EQ(call_style_of("a <tool_call><arg_key>", AnswerFormat::marks), CallStyle::glm);
    EXPECT_EQ(call_style_of("[TOOL_CALLS]", AnswerFormat::marks), CallStyle::mistral);
    EXPECT_EQ(call_style_of("<｜tool▁calls▁begin｜>", AnswerFormat::marks), CallStyle::deepseek);
    EXPECT_EQ(call_style_of("<|python_tag|>", AnswerFormat::marks), CallStyle::llama);
    EXPECT_EQ(call_style_of("", AnswerFormat::harmony), CallStyle::harmony);
    EXPECT_EQ(call_style_of("messages", AnswerFormat::marks), CallStyle::none);
}

TEST(Marks, ASingleCallEndsTheAnswer) {
    const std::string call = "<tool_call>{\"name\": \"a\", \"arguments\": {}}</tool_call>";
    expect_however_cut("Look: " + call + "\n" + call + " and more",
                       {.tools = Json::array(), .single_call = true}, {"", "Look:", {{"a", "{}"}}});
    const auto parser = make_answer_parser({.tools = Json::array(), .single_call = true});
    TextDelta delta;
    parser->text(call.substr(0, call.size() - 1), delta);
    EXPECT_FALSE(parser->done());
    parser->text(">", delta);
    EXPECT_TRUE(parser->done());
}

TEST(Marks, GlmCalls) {
    expect_however_cut(
        "<tool_call>weather<arg_key>city</arg_key><arg_value>12</arg_value><arg_key>days</arg_key>"
        "<arg_value>2</arg_value></tool_call>",
        marks(), {"", "", {{"weather", R"({"city":"12","days":2})"}}});
    expect_however_cut(
        "Wait.<tool_call>other\n<arg_key>list</arg_key>\n<arg_value>[1, "
        "\"<b>\"]</arg_value>\n<arg_key>text</arg_key>\n"
        "<arg_value>two\nlines</arg_value>\n</tool_call><tool_call>now</tool_call>",
        marks(), {"", "Wait.", {{"other", R"({"list":[1,"<b>"],"text":"two\nlines"})"}, {"now", "{}"}}});
}

TEST(Marks, CoderCalls) {
    expect_however_cut(
        "<tool_call>\n<function=weather>\n<parameter=city>\n12\n</parameter>\n<parameter=days>\n2\n</"
        "parameter>\n"
        "</function>\n</tool_call>",
        marks(), {"", "", {{"weather", R"({"city":"12","days":2})"}}});
}

TEST(Marks, WhatIsNoCallIsAnswer) {
    for (const std::string inside :
         {"", " ", "{", "{\"name\": 3}", "{\"arguments\": {}}", "[]", "[1]", "two words",
          "a<arg_key>b</arg_key>", "a<arg_key>b</arg_key><arg_value>c",
          "a<arg_key></arg_key><arg_value>c</arg_value>", "<function=a b>", "<function=a>",
          "<function=a><parameter=b>", "\"x\"", "{\"name\": \"a\"} {}"}) {
        const std::string text = "<tool_call>" + inside + "</tool_call>";
        expect_however_cut(text, marks(), {"", text});
    }
    expect_however_cut("<tool_call>{\"name\"", marks(), {"", "<tool_call>{\"name\""});
}

TEST(Marks, AnySequenceIsCutIndependent) {
    const std::string_view parts[] = {"<think>",   "</think>",   "<tool_call>", "</tool_call>",
                                      "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>",
                                      "a",         " ",          "\n",          "{\"name\":\"f\"}",
                                      "<",         "</tool"};
    std::mt19937 rng(6);
    for (int round = 0; round < 3000; ++round) {
        std::string text;
        for (uint32_t n = rng() % 12; n > 0; --n) text += parts[rng() % std::size(parts)];
        const auto pieces = atoms(text, false);
        const auto often = [&](size_t) { return rng() % 3 == 0; };
        for (const bool with_tools : {true, false}) {
            const Parsed expected = parse({text}, marks(with_tools));
            ASSERT_EQ(parse(pieces, marks(with_tools)), expected) << text;
            ASSERT_EQ(parse(joined(pieces, often, false), marks(with_tools)), expected) << text;
        }
    }
}

}  // namespace
}  // namespace smelt
