// Which call a result belongs to, and what templates get of typed messages.
#include "chat/conversation.h"

#include <gtest/gtest.h>

namespace smelt {
namespace {

TEST(CallBook, AResultThatNamesAnIdGoesToThatCall) {
    CallBook book;
    book.begin_message();
    EXPECT_EQ(book.add_call("x", "f"), 0u);
    EXPECT_EQ(book.add_call("y", "f"), 1u);
    EXPECT_EQ(book.find_call({.id = "y"}), 1u);
    EXPECT_EQ(book.find_call({.id = "x", .name = "other"}), 0u) << "the id decides";
    EXPECT_EQ(book.find_call({.id = "z"}), std::nullopt);
    EXPECT_EQ(book.find_call({.id = "x"}), 0u) << "a second result";
}

TEST(CallBook, WithoutIdsTheOrderCounts) {
    CallBook book;
    book.begin_message();
    book.add_call("", "f");
    book.add_call("", "g");
    book.add_call("", "f");
    EXPECT_EQ(book.find_call({.name = "g"}), 1u);
    EXPECT_EQ(book.find_call({.name = "f"}), 0u);
    EXPECT_EQ(book.find_call({}), 2u);
    EXPECT_EQ(book.find_call({}), std::nullopt);
    EXPECT_EQ(book.find_call({.name = "f"}), std::nullopt) << "all have a result";
}

TEST(CallBook, CallsOfTheLatestMessageComeFirst) {
    CallBook book;
    book.begin_message();
    book.add_call("call_0", "f");  // never answered
    book.begin_message();
    book.add_call("call_0", "f");
    book.add_call("call_1", "f");
    EXPECT_EQ(book.find_call({.id = "call_0"}), 1u);
    EXPECT_EQ(book.find_call({.name = "f"}), 2u);
    EXPECT_EQ(book.find_call({.name = "f"}), 0u);
}

TEST(Conversation, ResultsThatFollowEachOtherAreSorted) {
    const auto result = [](size_t call) -> Message {
        return {.role = Role::tool, .parts = {ResultPart{call, std::to_string(call)}}};
    };
    const Message user{.role = Role::user, .parts = {TextPart{"q"}}};
    std::vector<Message> messages = {user, result(2), result(0), result(1), user, result(4), result(3)};
    sort_results(messages);
    std::string texts;
    for (const Json& m : template_messages(messages)) texts += m["content"].get<std::string>();
    EXPECT_EQ(texts, "q012q34");
}

TEST(Conversation, TemplatesGetEachPartUnderItsName) {
    const std::vector<Message> messages = {
        {.role = Role::system, .name = "boss", .parts = {TextPart{"a"}, TextPart{"b"}}},
        {.role = Role::assistant,
         .parts = {ReasoningPart{"why"}, TextPart{"I "}, RefusalPart{"refuse"},
                   CallPart{7, "f", {{"n", 1}}}}},
        {.role = Role::tool, .parts = {ResultPart{7, "done"}}}};
    EXPECT_EQ(template_messages(messages), parse_json(R"([
        {"role": "system", "name": "boss", "content": "ab"},
        {"role": "assistant", "content": "I refuse", "reasoning_content": "why",
         "tool_calls": [{"id": "call00007", "type": "function", "function": {"name": "f", "arguments": {"n": 1}}}]},
        {"role": "tool", "content": "done", "tool_call_id": "call00007"}])",
                                                      "expected"));
}

TEST(Conversation, StrictIsForGrammarsAlone) {
    const std::vector<Tool> tools = {
        {.name = "f", .strict = true, .function = {{"name", "f"}, {"strict", true}, {"returns", "text"}}}};
    EXPECT_EQ(call_tools(tools)[0]["function"]["strict"], true);
    EXPECT_FALSE(template_tools(tools)[0]["function"].contains("strict"));
    EXPECT_EQ(template_tools(tools)[0]["function"]["returns"], "text") << "what a template may know";
}

}  // namespace
}  // namespace smelt
