// smelt.h as a program of somebody else sees it: includes nothing else of smelt. The bundled model knows
// sums.
#include "api/smelt.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <fstream>
#include <numeric>
#include <thread>

namespace {

const char* const demo_path = SMELT_MODELS "/demo-5m";

const smelt::Model& demo() {
    static const smelt::Model model =
        smelt::Model::open(demo_path, {.n_threads = 1, .n_ctx = 256, .kv_tokens = 2048});
    return model;
}

smelt::Prompt ask(const std::string& question, const smelt::Model& model = demo()) {
    return model.chat_prompt({{"user", question}}, {.thinking = false});
}

const smelt::GenerateOptions greedy = {.max_tokens = 100, .temperature = 0.0f};

template <class F>
void expect_error(smelt::ErrorCode code, const std::string& part, F f) {
    try {
        f();
        ADD_FAILURE() << "expected an error with " << part;
    } catch (const smelt::Error& e) {
        EXPECT_EQ(e.code(), code) << e.what();
        EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
}

TEST(Api, Answers) {
    std::string streamed;
    std::vector<int32_t> ids;
    const smelt::Answer answer = demo().generate(ask("What is 12 + 30?"), greedy, [&](const smelt::Piece& p) {
        streamed += p.text;
        for (const smelt::Token& t : p.tokens) ids.push_back(t.id);
        return true;
    });
    EXPECT_NE(answer.text.find("= 42"), std::string::npos) << answer.text;
    EXPECT_EQ(streamed, answer.text);
    EXPECT_EQ(answer.finish, smelt::FinishReason::stop);
    EXPECT_EQ(answer.n_prompt, static_cast<int>(ask("What is 12 + 30?").tokens.size()));
    ASSERT_EQ(ids.size(), answer.tokens.size());
    EXPECT_EQ(answer.n_generated, static_cast<int>(ids.size()) + 1);  // with the end of the turn
    EXPECT_EQ(demo().detokenize(ids), answer.text);
    EXPECT_GT(answer.decode, 0);
}

TEST(Api, ThinkingIsToldApart) {
    const smelt::Model model =
        smelt::Model::open(SMELT_MODELS "/demo-23m", {.n_threads = 1, .n_ctx = 256, .kv_tokens = 256});
    const smelt::Answer answer =
        model.generate(model.chat_prompt({{"user", "What is 12 + 31?"}}, {.thinking = true}), greedy);
    EXPECT_FALSE(answer.thinking.empty());
    EXPECT_EQ(answer.text.find("think>"), std::string::npos) << answer.text;
    EXPECT_NE(answer.text.find("43"), std::string::npos) << answer.text;
}

TEST(Api, BatchesAreWhatPromptsAreAlone) {
    // More prompts than the queue holds.
    const smelt::Model model = smelt::Model::open(
        demo_path, {.n_threads = 1, .n_ctx = 128, .kv_tokens = 512, .max_sequences = 3, .max_queue = 2});
    std::vector<smelt::Prompt> prompts;
    for (int i = 0; i < 12; ++i) prompts.push_back(ask("What is " + std::to_string(i) + " + 30?", model));
    // Requests of low priority may fill half of the queue.
    smelt::GenerateOptions options = greedy;
    options.priority = -1;
    const std::vector<smelt::Answer> answers = model.generate_all(prompts, options);
    ASSERT_EQ(answers.size(), prompts.size());
    for (size_t i = 0; i < prompts.size(); ++i) {
        EXPECT_EQ(answers[i].text, demo().generate(prompts[i], greedy).text);
        EXPECT_FALSE(answers[i].text.empty());
    }
    EXPECT_TRUE(model.generate_all({}, greedy).empty());
}

TEST(Api, ManyThreads) {
    const std::string expected = demo().generate(ask("What is 12 + 30?"), greedy).text;
    std::vector<std::thread> threads;
    std::atomic<int> n_right = 0;
    for (int i = 0; i < 8; ++i) {
        threads.emplace_back(
            [&] { n_right += demo().generate(ask("What is 12 + 30?"), greedy).text == expected; });
    }
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(n_right, 8);
}

TEST(Api, QueueIsFull) {
    const smelt::Model model =
        smelt::Model::open(demo_path, {.n_threads = 1, .n_ctx = 1024, .max_sequences = 1, .max_queue = 1});
    const smelt::GenerateOptions endless = {.temperature = 0.0f, .regex = "(a|b)*"};
    std::vector<smelt::Generation> running;
    expect_error(smelt::ErrorCode::busy, "", [&] {
        for (int i = 0; i < 20; ++i) running.push_back(model.start(ask("Hi", model), endless));
    });
    EXPECT_GE(running.size(), 1u);
}

TEST(Api, CancelledBySeveralWays) {
    const smelt::GenerateOptions endless = {.temperature = 0.0f, .regex = "a*b{1000}"};
    std::string seen;
    const smelt::Answer by_callback = demo().generate(ask("Hi"), endless, [&](const smelt::Piece& p) {
        seen += p.text;
        return seen.size() < 5;
    });
    EXPECT_EQ(by_callback.finish, smelt::FinishReason::cancelled);
    EXPECT_EQ(by_callback.text, seen);

    smelt::Generation generation = demo().start(ask("Hi"), endless);
    std::thread other([&] { generation.cancel(); });
    EXPECT_EQ(generation.finish().finish, smelt::FinishReason::cancelled);
    other.join();

    struct Own {};
    EXPECT_THROW(demo().generate(ask("Hi"), endless, [](const smelt::Piece&) -> bool { throw Own(); }), Own);
    EXPECT_EQ(demo().generate(ask("Hi"), {.max_tokens = 3}).finish, smelt::FinishReason::length);
}

TEST(Api, GenerationOutlivesItsModel) {
    std::unique_ptr<smelt::Generation> generation;
    {
        const smelt::Model model = smelt::Model::open(demo_path, {.n_threads = 1, .n_ctx = 128});
        generation = std::make_unique<smelt::Generation>(model.start(ask("What is 12 + 30?", model), greedy));
    }
    EXPECT_NE(generation->finish().text.find("42"), std::string::npos);
}

TEST(Api, StopStringsEndTheAnswer) {
    smelt::GenerateOptions options = greedy;
    options.stop = {" ="};
    const smelt::Answer answer = demo().generate(ask("What is 12 + 30?"), options);
    EXPECT_EQ(answer.finish, smelt::FinishReason::stop);
    EXPECT_EQ(answer.text.find('='), std::string::npos);
    EXPECT_NE(answer.text.find("12 + 30"), std::string::npos) << answer.text;
}

TEST(Api, FormsOfAnswers) {
    smelt::GenerateOptions options = greedy;
    options.json_schema = R"({"type": "object", "properties": {"sum": {"type": "integer", "maximum": 99}},
                              "required": ["sum"], "additionalProperties": false})";
    const std::string json = demo().generate(ask("What is 12 + 30?"), options).text;
    EXPECT_EQ(json.front(), '{');
    EXPECT_NE(json.find("\"sum\""), std::string::npos) << json;
    EXPECT_EQ(demo().generate(ask("Hi"), {.max_tokens = 50, .regex = "(yes|no)!"}).text.back(), '!');
    EXPECT_EQ(demo().generate(ask("Hi"), {.max_tokens = 50, .gbnf = "root ::= \"xy\""}).text, "xy");
    // Thinking stays free.
    const auto thoughtful = demo().chat_prompt({{"user", "What is 12 + 31?"}}, {.thinking = true});
    options.json_schema.clear();
    options.regex = "[0-9]{2}";
    const smelt::Answer answer = demo().generate(thoughtful, options);
    EXPECT_EQ(answer.text.find_first_not_of("0123456789"), std::string::npos) << answer.text;
}

TEST(Api, LogProbabilities) {
    smelt::GenerateOptions options = greedy;
    options.n_logprobs = 3;
    const smelt::Answer answer = demo().generate(ask("What is 12 + 30?"), options);
    ASSERT_FALSE(answer.tokens.empty());
    for (const smelt::Token& t : answer.tokens) {
        ASSERT_EQ(t.top.size(), 3u);
        EXPECT_EQ(t.top[0].id, t.id);  // greedy
        EXPECT_EQ(t.top[0].logprob, t.logprob);
        EXPECT_LE(t.logprob, 0);
        EXPECT_GE(t.top[0].logprob, t.top[1].logprob);
    }
}

TEST(Api, SeedsGiveTheSameAnswer) {
    const smelt::GenerateOptions options = {.max_tokens = 30, .temperature = 2.0f, .seed = 7};
    const std::string first = demo().generate(ask("Hi"), options).text;
    EXPECT_EQ(demo().generate(ask("Hi"), options).text, first);
    smelt::GenerateOptions other = options;
    other.seed = 8;
    EXPECT_NE(demo().generate(ask("Hi"), other).text, first);
}

TEST(Api, Embeddings) {
    const auto both = demo().embed_all({"a cat", "a dog"});
    ASSERT_EQ(both.size(), 2u);
    ASSERT_EQ(both[0].size(), static_cast<size_t>(demo().info().dim));
    EXPECT_NEAR(std::inner_product(both[0].begin(), both[0].end(), both[0].begin(), 0.0), 1, 1e-5);
    EXPECT_EQ(demo().embed("a dog"), both[1]);
    EXPECT_NE(both[0], both[1]);
    const auto last = demo().embed("a cat", {.pooling = smelt::Pooling::last, .dimensions = 8});
    EXPECT_EQ(last.size(), 8u);
    EXPECT_NEAR(std::inner_product(last.begin(), last.end(), last.begin(), 0.0), 1, 1e-5);
    const auto raw = demo().embed("a cat", {.normalise = false});
    EXPECT_GT(std::abs(std::inner_product(raw.begin(), raw.end(), raw.begin(), 0.0) - 1), 0.1);
}

TEST(Api, TokensAndBack) {
    const std::string text = "Hello, w\xc3\xb6rld! <|im_end|>";
    EXPECT_EQ(demo().detokenize(demo().tokenize(text)), text);
    EXPECT_LT(demo().tokenize(text).size(), demo().tokenize(text, {.parse_special = false}).size());
    EXPECT_EQ(demo().detokenize(demo().tokenize("a<|im_end|>"), {.skip_special = true}), "a");
    const smelt::Prompt prompt = demo().text_prompt("Once");
    EXPECT_EQ(prompt.text, "Once");
    EXPECT_FALSE(prompt.is_chat);
    // Ids of one's own give the same answer.
    EXPECT_EQ(demo().generate({.tokens = prompt.tokens}, greedy).text, demo().generate(prompt, greedy).text);
}

std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

TEST(Api, PicturesAreSeen) {
    const smelt::Model model =
        smelt::Model::open(SMELT_MODELS "/demo-vl", {.n_threads = 1, .n_ctx = 256, .kv_tokens = 1024});
    EXPECT_TRUE(model.info().takes_pictures);
    const std::string scene = read_file(SMELT_MODELS "/demo-vl/scene.png"),
                      other = read_file(SMELT_MODELS "/demo-vl/golden_0.png");
    const auto ask_of = [&](const std::vector<std::string>& pictures, const std::string& question) {
        return model.chat_prompt({{"user", question, pictures}});
    };
    const smelt::Prompt prompt = ask_of({scene}, "How many red circles are there?");
    const smelt::Answer answer = model.generate(prompt, greedy);
    EXPECT_NE(answer.text.find("There are 3 red circles"), std::string::npos) << answer.text;
    EXPECT_EQ(answer.n_prompt, static_cast<int>(prompt.tokens.size()));
    const auto question = "Describe the picture.";
    const smelt::Prompt first = ask_of({scene}, question), second = ask_of({other}, question);
    const auto together = model.generate_all({first, second, ask_of({scene, other}, question)}, greedy);
    EXPECT_EQ(together[0].text, model.generate(first, greedy).text);
    EXPECT_EQ(together[1].text, model.generate(second, greedy).text);
    EXPECT_NE(together[0].text, together[1].text);

    using enum smelt::ErrorCode;
    expect_error(invalid_argument, "messages[0]: pictures[1]", [&] { ask_of({scene, "GIF89a"}, "Hi"); });
    expect_error(invalid_argument, "has room for 256",
                 [&] { ask_of(std::vector<std::string>(65, scene), "Hi"); });
    expect_error(invalid_argument, "sees text alone", [&] { demo().chat_prompt({{"user", "Hi", {scene}}}); });
    // Tokens that were changed so that a picture has no place any more.
    smelt::Prompt cut = prompt;
    cut.tokens.resize(cut.tokens.size() / 2);
    expect_error(invalid_argument, "picture 1", [&] { model.generate(cut, greedy); });
    cut.tokens.clear();
    expect_error(invalid_argument, "picture 1", [&] { model.generate(cut, greedy); });
    expect_error(invalid_argument, "text alone", [&] { demo().generate(prompt, greedy); });
}

TEST(Api, ErrorsNameWhatIsWrong) {
    using enum smelt::ErrorCode;
    expect_error(cannot_open, "/no/such/model", [] { smelt::Model::open("/no/such/model"); });
    expect_error(cannot_open, "abacus", [] { smelt::Model::open(demo_path, {.device = "abacus"}); });
    expect_error(invalid_argument, "n_threads", [] { smelt::Model::open(demo_path, {.n_threads = -1}); });
    expect_error(invalid_argument, "q9", [] { smelt::Model::open(demo_path, {.kv_format = "q9"}); });
    expect_error(invalid_argument, "max_queue", [] { smelt::Model::open(demo_path, {.max_queue = 0}); });
    const auto refused = [](const std::string& part, const smelt::GenerateOptions& options) {
        expect_error(invalid_argument, part, [&] { demo().generate(ask("Hi"), options); });
    };
    refused("temperature", {.temperature = -1.0f});
    refused("temperature", {.temperature = NAN});
    refused("top_p", {.top_p = 2.0f});
    refused("top_k", {.top_k = -2});
    refused("max_tokens", {.max_tokens = -2});
    refused("n_logprobs", {.n_logprobs = 5000});
    refused("thinking_budget", {.thinking_budget = -2});
    refused("priority", {.priority = 1000});
    refused("stop", {.stop = {""}});
    refused("stop: expected UTF-8", {.stop = {"a\xff"}});
    refused("json_schema", {.json_schema = "{"});
    refused("json_schema", {.json_schema = "7"});
    refused("regex", {.regex = "("});
    refused("gbnf", {.gbnf = "nonsense"});
    refused("from json_schema", {.json_schema = "{}", .regex = "a"});
    expect_error(invalid_argument, "messages", [] { demo().chat_prompt({}); });
    expect_error(invalid_argument, "UTF-8", [] { demo().chat_prompt({{"user", "\xc3"}}); });
    expect_error(invalid_argument, "template_variables", [] {
        demo().chat_prompt({{"user", "a"}}, {.template_variables = "[]"});
    });
    expect_error(invalid_argument, "context", [] { demo().generate(ask(std::string(9000, 'x'))); });
    expect_error(invalid_argument, "tokens", [] { demo().generate(smelt::Prompt{.tokens = {}}); });
    expect_error(invalid_argument, "tokens", [] { demo().generate(smelt::Prompt{.tokens = {-5}}); });
    expect_error(invalid_argument, "tokens", [] { demo().detokenize({1 << 30}); });
    expect_error(invalid_argument, "dimensions", [] { demo().embed("a", {.dimensions = 1 << 20}); });
    expect_error(invalid_argument, "text", [] { demo().embed(""); });
}

TEST(Api, ModelsWithoutATemplateGoOnWithText) {
    EXPECT_TRUE(demo().info().has_chat_template);
    EXPECT_EQ(demo().info().n_ctx, 256);
    EXPECT_EQ(demo().info().architecture, "qwen3");
    EXPECT_EQ(smelt::version().find("0."), 0u);
}

}  // namespace
