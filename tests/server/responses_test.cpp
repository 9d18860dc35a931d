// OpenAI's Responses API: output items, the order and numbers of events, what is refused.
#include "server/api_fixture.h"

namespace smelt {
namespace {

class ResponsesTest : public ApiTest {
 protected:
    Json base(const Json& more) const {
        Json request = {{"model", "demo-23m"}, {"temperature", 0}, {"input", "What is 12 + 30?"}};
        request.update(more);
        return request;
    }
    Json ask(const Json& more = Json::object()) {
        const Reply r = post("/v1/responses", base(more));
        EXPECT_EQ(r.status, 200) << r.body;
        return r.json();
    }
    static Json without_ids(Json output) {
        for (Json& item : output) {
            item.erase("id");
            item.erase("call_id");
        }
        return output;
    }

    inline static const Json tools = parse_json(
        R"([{"type": "function", "name": "get_weather", "description": "Current weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}])",
        "tools");
};

TEST_F(ResponsesTest, OutputIsReasoningAndAMessage) {
    const Json r = ask({{"metadata", {{"a", "b"}}}});
    EXPECT_EQ(r["object"], "response");
    EXPECT_EQ(r["status"], "completed");
    EXPECT_EQ(r["store"], false);
    EXPECT_EQ(r["metadata"]["a"], "b");
    ASSERT_EQ(r["output"].size(), 2u) << r;
    EXPECT_EQ(r["output"][0]["type"], "reasoning");
    EXPECT_EQ(r["output"][0]["content"][0]["text"], "12 + 30 equals 42.");
    EXPECT_EQ(r["output"][1]["type"], "message");
    EXPECT_EQ(r["output"][1]["content"][0]["text"], "12 + 30 = 42");
    EXPECT_GT(r["usage"]["output_tokens_details"]["reasoning_tokens"].get<int>(), 3);
    EXPECT_EQ(r["usage"]["total_tokens"],
              r["usage"]["input_tokens"].get<int>() + r["usage"]["output_tokens"].get<int>());
    EXPECT_EQ(ask({{"reasoning", {{"effort", "none"}}}})["output"].size(), 1u);
    const Json cut = ask({{"max_output_tokens", 3}});
    EXPECT_EQ(cut["status"], "incomplete");
    EXPECT_EQ(cut["incomplete_details"]["reason"], "max_output_tokens");
}

// Items of a conversation make the prompt that messages make.
TEST_F(ResponsesTest, InputItemsAreMessages) {
    const Json first = ask();
    Json input = Json::array({{{"role", "user"}, {"content", "What is 12 + 30?"}}});
    for (const Json& item : first["output"]) input.push_back(item);
    input.push_back({{"type", "message"},
                     {"role", "user"},
                     {"content", Json::array({{{"type", "input_text"}, {"text", "And 1 + 2?"}}})}});
    const Json r = ask({{"input", input}, {"instructions", "Be brief."}});
    const Json chat = post("/v1/chat/completions",
                           {{"model", "demo-23m"},
                            {"temperature", 0},
                            {"messages", Json::array({{{"role", "system"}, {"content", "Be brief."}},
                                                      {{"role", "user"}, {"content", "What is 12 + 30?"}},
                                                      {{"role", "assistant"},
                                                       {"content", "12 + 30 = 42"},
                                                       {"reasoning_content", "12 + 30 equals 42."}},
                                                      {{"role", "user"}, {"content", "And 1 + 2?"}}})}})
                          .json();
    EXPECT_EQ(r["usage"]["input_tokens"], chat["usage"]["prompt_tokens"]);
    EXPECT_EQ(r["output"].back()["content"][0]["text"], chat["choices"][0]["message"]["content"]);
}

TEST_F(ResponsesTest, ToolsThereAndBack) {
    const Json call = ask({{"input", "What is the weather in Paris?"}, {"tools", tools}});
    const Json& item = call["output"].back();
    ASSERT_EQ(item["type"], "function_call") << call;
    EXPECT_EQ(item["name"], "get_weather");
    EXPECT_EQ(Json::parse(item["arguments"].get<std::string>()), Json({{"city", "Paris"}}));
    Json input = Json::array({{{"role", "user"}, {"content", "What is the weather in Paris?"}}});
    for (const Json& i : call["output"]) input.push_back(i);
    input.push_back({{"type", "function_call_output"},
                     {"call_id", item["call_id"]},
                     {"output", R"({"temperature": 21})"}});
    const Json answer = ask({{"input", input}, {"tools", tools}});
    EXPECT_NE(answer["output"].back()["content"][0]["text"].get<std::string>().find("21"), std::string::npos)
        << answer;
}

// Numbered without gaps; each item is added, grows and is done before the next; the last event has them all.
TEST_F(ResponsesTest, EventsComeInOrder) {
    for (const Json& more :
         {Json{{"input", "What is 12 + 30?"}}, Json{{"input", "What is the weather in Paris?"},
                                                    {"tools", tools},
                                                    {"reasoning", {{"effort", "none"}}}}}) {
        Json request = base(more);
        request["stream"] = true;
        const Reply r = post("/v1/responses", request);
        const std::vector<Json> all = events(r.body);
        ASSERT_GT(all.size(), 6u) << r.body;
        EXPECT_EQ(all[0]["type"], "response.created");
        EXPECT_EQ(all[1]["type"], "response.in_progress");
        EXPECT_EQ(all.back()["type"], "response.completed");
        Json output = Json::array();
        std::string open, text;
        for (size_t i = 0; i < all.size(); ++i) {
            const Json& e = all[i];
            const std::string type = e["type"];
            EXPECT_EQ(e["sequence_number"], i);
            EXPECT_NE(r.body.find(fmt::format("event: {}\ndata: {}\n\n", type, to_string(e))),
                      std::string::npos);
            if (type == "response.output_item.added") {
                EXPECT_EQ(open, "");
                EXPECT_EQ(e["item"]["status"], "in_progress");
                open = e["item"]["id"];
                text.clear();
            } else if (type == "response.output_item.done") {
                EXPECT_EQ(e["item"]["id"], open);
                const Json& item = e["item"];
                EXPECT_EQ(text,
                          item["type"] == "function_call" ? item["arguments"] : item["content"][0]["text"]);
                output.push_back(item);
                open.clear();
            } else if (e.contains("item_id")) {
                EXPECT_EQ(e["item_id"], open);
                text += e.value("delta", "");
            }
            if (e.contains("output_index")) {
                EXPECT_EQ(e["output_index"], type.ends_with("item.done") ? output.size() - 1 : output.size());
            }
        }
        EXPECT_EQ(all.back()["response"]["output"], output);
        EXPECT_EQ(without_ids(output), without_ids(ask(more)["output"]));
    }
}

TEST_F(ResponsesTest, WhatIsRefusedSaysWhy) {
    const std::pair<Json, const char*> wrong[] = {
        {{{"conversation", "conv_1"}}, "conversation"},
        {{{"background", true}}, "background"},
        {{{"truncation", "auto"}}, "truncation"},
        {{{"input", Json::array()}}, "input"},
        {{{"input", {{{"type", "item_reference"}, {"id", "x"}}}}}, "input[0].type"},
        {{{"input", {{{"role", "user"}, {"content", {{{"type", "input_image"}}}}}}}},
         "input[0].content[0].image_url"},
        {{{"input", {{{"type", "function_call_output"}, {"call_id", "x"}, {"output", "y"}}}}},
         "input[0].call_id"},
        {{{"input", {{{"type", "function_call"}, {"call_id", "x"}, {"name", "f"}, {"arguments", "{"}}}}},
         "input[0].arguments"},
        {{{"reasoning", {{"effort", "heroic"}}}}, "reasoning.effort"},
        {{{"tool_choice", "required"}}, "tool_choice"},
    };
    for (const auto& [more, param] : wrong) {
        const Reply r = post("/v1/responses", base(more));
        EXPECT_EQ(r.status, 400) << more;
        EXPECT_EQ(r.param(), param) << r.body;
    }
    EXPECT_EQ(post("/v1/responses", base({{"store", false}, {"max_output_tokens", 1}})).status, 200);
}

// Kept where a request asks for it, for the same key alone; the oldest go first.
TEST_F(ResponsesTest, GoesOnFromAnAnswerThatWasKept) {
    const Json first = ask({{"store", true}});
    EXPECT_EQ(first["store"], true);
    const std::string id = first["id"];
    // The same as with the conversation as input.
    Json input = Json::array({{{"role", "user"}, {"content", "What is 12 + 30?"}}});
    for (const Json& item : first["output"]) input.push_back(item);
    input.push_back({{"role", "user"}, {"content", "What is 2 + 3?"}});
    const Json whole = ask({{"input", input}});
    const Json next = ask({{"previous_response_id", id}, {"input", "What is 2 + 3?"}, {"store", true}});
    EXPECT_EQ(next["usage"]["input_tokens"], whole["usage"]["input_tokens"]);
    EXPECT_EQ(without_ids(next["output"]), without_ids(whole["output"]));
    EXPECT_EQ(next["previous_response_id"], id);
    // A third turn, streamed.
    const Reply streamed = post("/v1/responses", base({{"previous_response_id", next["id"]},
                                                       {"input", "What is 1 + 1?"},
                                                       {"store", true},
                                                       {"stream", true}}));
    const Json last = events(streamed.body).back()["response"];
    EXPECT_EQ(last["status"], "completed");
    EXPECT_EQ(get("/v1/responses/" + last["id"].get<std::string>()).json()["output"], last["output"]);

    Client client(server_->port());
    EXPECT_EQ(client.ask("DELETE", "/v1/responses/" + id).json()["deleted"], true);
    EXPECT_EQ(get("/v1/responses/" + id).status, 404);
    const Reply gone = post("/v1/responses", base({{"previous_response_id", id}}));
    EXPECT_EQ(gone.status, 404);
    EXPECT_EQ(gone.param(), "previous_response_id");
    EXPECT_NE(gone.body.find("send the conversation"), std::string::npos);
    // What was not stored is not there.
    EXPECT_EQ(get("/v1/responses/" + ask()["id"].get<std::string>()).status, 404);
    EXPECT_EQ(get("/v1/responses/..%2f..%2fetc").status, 404);
}

TEST(ResponseStoreTest, IsBoundedInMemoryAndOnDiskAndAsksForTheKey) {
    const auto id_of = [](int i) { return fmt::format("resp_{:016x}", i); };
    const std::filesystem::path folder = testing::TempDir() + fmt::format("smelt_responses_{}", ::getpid());
    const auto kept = [](int i) {
        return ResponseStore::Kept{.conversation = {std::string(1000, 'a'), i}, .response = {{"n", i}}};
    };
    {
        ResponseStore store({.max_bytes = 10'000, .folder = folder});
        for (int i = 0; i < 20; ++i) {
            ASSERT_TRUE(store.put(id_of(i), "key", kept(i)));
            std::this_thread::sleep_for(std::chrono::milliseconds(2));  // files are told apart by their time
        }
        EXPECT_FALSE(store.get(id_of(0), "key"));
        EXPECT_EQ(store.get(id_of(19), "key")->response["n"], 19);
        EXPECT_FALSE(store.get(id_of(19), "another key"));
        EXPECT_FALSE(store.erase(id_of(19), "another key"));
        EXPECT_FALSE(store.put(id_of(20), "key", {.conversation = std::string(20'000, 'a'), .response = {}}));
        EXPECT_FALSE(store.put("resp_../../x", "key", kept(1)));
        uintmax_t n_bytes = 0;
        for (const auto& f : std::filesystem::directory_iterator(folder)) n_bytes += f.file_size();
        EXPECT_LE(n_bytes, 10'000u);
        EXPECT_GT(n_bytes, 5'000u);
    }
    ResponseStore again({.max_bytes = 10'000, .folder = folder});
    EXPECT_EQ(again.get(id_of(19), "key")->conversation[1], 19) << "it outlives the process";
    EXPECT_TRUE(again.erase(id_of(19), "key"));
    EXPECT_FALSE(again.get(id_of(19), "key"));
    std::filesystem::remove_all(folder);
    ResponseStore nothing({.max_bytes = 0});
    EXPECT_FALSE(nothing.put(id_of(1), "", kept(1)));
}

}  // namespace
}  // namespace smelt
