// A day of attacks in small: mutated bodies, dear schemas, races. Seeds are fixed, times bounded:
// SMELT_SOAK_SECONDS says how long each takes; default 30. ctest -L soak.
#include <atomic>
#include <random>

#include "server/api_fixture.h"
#include "server/socket.h"

namespace smelt {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Random = std::mt19937;

Clock::time_point end_of_battery() {
    const char* seconds = std::getenv("SMELT_SOAK_SECONDS");
    return Clock::now() + std::chrono::seconds(seconds == nullptr ? 30 : std::atoi(seconds));
}

size_t below(Random& r, size_t n) {
    return r() % n;
}

struct Target {
    const char* path;
    const char* body;
};
constexpr Target targets[] = {
    {"/v1/chat/completions",
     R"({"model":"demo-5m","messages":[{"role":"system","content":"s"},{"role":"user","content":[{"type":"text","text":"hi"}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"a\":1}"}}]},
        {"role":"tool","tool_call_id":"c1","content":"5"}],"max_tokens":3,"temperature":0.5,"top_p":0.9,"n":2,"stop":["x"],
        "logit_bias":{"5":1.5},"logprobs":true,"top_logprobs":2,"tools":[{"type":"function","function":{"name":"f","parameters":
        {"type":"object","properties":{"a":{"type":"integer"}}}}}],"tool_choice":"auto","seed":7,"stream":false})"},
    {"/v1/chat/completions",
     R"({"messages":[{"role":"user","content":"x"}],"max_tokens":4,"response_format":{"type":"json_schema","json_schema":{"name":"n",
        "schema":{"type":"object","properties":{"a":{"enum":[1,2]},"b":{"type":"string","pattern":"^a+$"}},"required":["a"]}}}})"},
    {"/v1/completions",
     R"({"model":"demo-5m","prompt":["a","b"],"max_tokens":2,"echo":true,"logprobs":1,"suffix":null,"best_of":2,"stream":true,
        "stream_options":{"include_usage":true},"user":"u"})"},
    {"/v1/responses",
     R"({"model":"demo-5m","input":[{"role":"user","content":[{"type":"input_text","text":"hi"}]},{"type":"function_call","call_id":"a",
        "name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"a","output":"1"}],"max_output_tokens":16,
        "instructions":"i","tools":[{"type":"function","name":"f","parameters":{}}],"text":{"format":{"type":"json_object"}}})"},
    {"/v1/messages",
     R"({"model":"demo-5m","max_tokens":3,"system":[{"type":"text","text":"s"}],"messages":[{"role":"user","content":"hi"},
        {"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":{"a":1}}]},{"role":"user","content":
        [{"type":"tool_result","tool_use_id":"t","content":[{"type":"text","text":"1"}]}]}],"tools":[{"name":"f","input_schema":
        {"type":"object"}}],"thinking":{"type":"enabled","budget_tokens":1024},"stop_sequences":["y"]})"},
    {"/v1/messages/count_tokens", R"({"model":"demo-5m","messages":[{"role":"user","content":"hi"}]})"},
    {"/api/chat",
     R"({"model":"demo-5m","messages":[{"role":"user","content":"hi","images":[]}],"stream":false,"format":"json","think":true,
        "options":{"num_predict":3,"temperature":1,"stop":["a"],"num_ctx":10},"keep_alive":"5m"})"},
    {"/api/generate",
     R"({"model":"demo-5m","prompt":"hi","system":"s","stream":false,"options":{"num_predict":2},"context":[1],"raw":true})"},
    {"/api/embed", R"({"model":"demo-5m","input":["a","b"],"truncate":true,"dimensions":4})"},
    {"/v1/embeddings",
     R"({"model":"demo-5m","input":[[1,2],[3]],"encoding_format":"base64","dimensions":4})"},
    {"/generate", R"({"prompt":"a","max_tokens":2,"guided_choice":["x","yy"],"priority":"background"})"},
    {"/tokenize", R"({"content":"abc","with_pieces":true,"add_special":true})"},
    {"/detokenize", R"({"tokens":[1,2,3]})"},
    {"/apply-template", R"({"messages":[{"role":"user","content":"a"}],"chat_template_kwargs":{"x":[1]}})"},
};

Json odd_value(Random& r) {
    switch (below(r, 16)) {
        case 0:
            return nullptr;
        case 1:
            return -1;
        case 2:
            return 1e308;
        case 3:
            return std::numeric_limits<int64_t>::min();
        case 4:
            return std::numeric_limits<uint64_t>::max();
        case 5:
            return "";
        case 6:
            return std::string(5000, 'a');
        case 7:
            return std::string("\0\x1b[31m\xf0\x9f\x98\x80\r\n", 12);
        case 8:
            return Json::array();
        case 9:
            return Json::object();
        case 10:
            return Json::array({Json::array({Json::array({1})})});
        case 11:
            return 0.1;
        case 12:
            return true;
        case 13:
            return "<|im_end|>";
        case 14: {
            Json deep = 1;
            for (int i = 0; i < 50; ++i) deep = i % 2 == 0 ? Json::array({deep}) : Json{{"type", deep}};
            return deep;
        }
        default:
            return Json::array({1, "a", nullptr, Json::object()});
    }
}

void list_places(Json& v, std::vector<Json*>& places) {
    places.push_back(&v);
    if (v.is_structured()) {
        for (auto& item : v) list_places(item, places);
    }
}

std::string mutated(const Json& whole, Random& r) {
    Json body = whole;
    for (size_t n = 1 + below(r, 3); n > 0; --n) {
        std::vector<Json*> places;
        list_places(body, places);
        Json& place = *places[below(r, places.size())];
        switch (below(r, 5)) {
            case 0:
                if (place.is_object() && !place.empty()) {
                    auto it = place.begin();
                    std::advance(it, static_cast<std::ptrdiff_t>(below(r, place.size())));
                    place.erase(it.key());
                    break;
                }
                [[fallthrough]];
            case 1:
                if (place.is_array() && !place.empty()) {
                    const Json again = place[below(r, place.size())];
                    for (size_t i = below(r, 40); i > 0; --i) place.push_back(again);
                    break;
                }
                [[fallthrough]];
            default: {
                // Another place's value, or one of nowhere.
                const Json other = below(r, 3) == 0 ? *places[below(r, places.size())] : odd_value(r);
                place = other;
            }
        }
    }
    std::string text = body.dump(-1, ' ', false, Json::error_handler_t::ignore);
    if (below(r, 4) != 0) return text;
    for (size_t n = 1 + below(r, 4); n > 0 && !text.empty(); --n) {
        const size_t at = below(r, text.size());
        switch (below(r, 4)) {
            case 0:
                text[at] = static_cast<char>(r());
                break;
            case 1:
                text.erase(at, 1 + below(r, 10));
                break;
            case 2:
                text.insert(at, text.substr(below(r, text.size()), below(r, 30)));
                break;
            default:
                text.resize(at);
        }
    }
    return text;
}

// An answer, or a fault of the client's in the form of its dialect; never one of the server's.
void expect_decent(const Reply& r, const std::string& path, const std::string& body) {
    const bool known =
        r.status == 200 || (r.status >= 400 && r.status < 500) || r.status == 501 || r.status == 503;
    EXPECT_TRUE(known) << r.status << " " << path << "\n"
                       << body.substr(0, 2000) << "\n"
                       << r.body.substr(0, 500);
    if (r.status < 400) return;
    EXPECT_LT(r.body.size(), 3000u) << path << "\n" << body.substr(0, 2000);
    const Json error = Json::parse(r.body, nullptr, false);
    EXPECT_TRUE(error.is_object() && error.contains("error")) << r.body.substr(0, 500);
}

class Attack : public ::testing::Test {
 protected:
    Attack() {
        TestServerOptions o;
        o.limits.header_timeout = 3s;
        o.limits.body_timeout = 3s;
        server_.emplace(o);
    }
    // How long a small question takes that someone else asks meanwhile.
    double ask() {
        const auto start = Clock::now();
        const Reply r =
            Client(server_->port()).ask("POST", "/v1/completions", R"({"prompt":"1+1=","max_tokens":2})");
        EXPECT_EQ(r.status, 200) << r.body;
        return std::chrono::duration<double>(Clock::now() - start).count();
    }
    std::optional<TestServer> server_;
};

TEST_F(Attack, MutatedBodies) {
    const auto end = end_of_battery();
    std::vector<std::thread> threads;
    std::atomic<size_t> n = 0, n_fine = 0;
    for (uint32_t t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            Random r(t + 1);
            while (Clock::now() < end && !HasFailure()) {
                const Target& target = targets[below(r, std::size(targets))];
                const std::string body = mutated(Json::parse(target.body), r);
                Client client(server_->port());
                const Reply reply = client.ask("POST", target.path, body);
                expect_decent(reply, target.path, body);
                ++n;
                n_fine += reply.status == 200;
            }
        });
    }
    for (std::thread& t : threads) t.join();
    EXPECT_GT(n, 100u);
    EXPECT_GT(n_fine, n / 50) << "the mutations are too wild to reach anything";
    EXPECT_TRUE(server_->becomes_idle());
    RecordProperty("bodies", static_cast<int>(n));
}

// Schemas of keywords that multiply each other.
Json random_schema(Random& r, int depth) {
    const auto words = [&](size_t n) {
        Json list = Json::array();
        for (size_t i = 0; i < n; ++i) list.push_back(fmt::format("w{}", r() % 1000));
        return list;
    };
    static const char* const patterns[] = {"^.*w.{14}$",    "(a|b|ab)*c",
                                           "^(\\w+\\s?)*$", "(?=.*a)(?=.*b)(?=.*c).{8,}",
                                           "[a-z]{1,2000}", "((a{0,50}){0,50}){0,50}",
                                           "(?!x).*(?<!y)", "\\p{L}+(\\d|\\D)*"};
    const Json leaf = {{"type", "string"}, {"pattern", patterns[below(r, std::size(patterns))]}};
    if (depth <= 0) return below(r, 2) == 0 ? leaf : Json{{"enum", words(1 + below(r, 200))}};
    const auto sub = [&] { return random_schema(r, depth - 1); };
    switch (below(r, 14)) {
        case 0:
            return {{"enum", words(300)}, {"pattern", patterns[below(r, std::size(patterns))]}};
        case 1: {
            Json all = Json::array();
            for (size_t i = 2 + below(r, 5); i > 0; --i) all.push_back(sub());
            static const char* const names[] = {"allOf", "anyOf", "oneOf"};
            return {{names[below(r, 3)], all}};
        }
        case 2: {
            Json p = Json::object();
            for (size_t i = below(r, 30); i > 0; --i) p[fmt::format("p{}", i)] = sub();
            return {{"type", "object"}, {"properties", p}, {"minProperties", below(r, 20)}};
        }
        case 3:
            return {{"type", "object"}, {"propertyNames", sub()}, {"additionalProperties", sub()}};
        case 4:
            return {{"type", "array"},
                    {"items", sub()},
                    {"minItems", r() % 100'000},
                    {"uniqueItems", r() % 2 == 0}};
        case 5:
            return {{"not", sub()}};
        case 6:
            return {{"if", sub()}, {"then", sub()}, {"else", sub()}};
        case 7: {
            Json defs = Json::object();
            for (int i = 0; i < 12; ++i) {
                const std::string next = fmt::format("#/$defs/d{}", (i + 1) % 12);
                defs[fmt::format("d{}", i)] = {
                    {"anyOf", {{{"$ref", next}}, {{"$ref", next}}, {{"type", "null"}}}}};
            }
            return {{"$defs", defs}, {"$ref", "#/$defs/d0"}};
        }
        case 8:
            return {{"type", "string"}, {"minLength", r()}, {"maxLength", r()}, {"pattern", "^a*$"}};
        case 9:
            return {{"type", "array"}, {"contains", sub()}, {"minContains", below(r, 500)}};
        case 10:
            return {{"type", "number"}, {"multipleOf", 1 + below(r, 3000)}, {"minimum", r()}};
        case 11: {
            Json p = Json::object();
            for (size_t i = 0; i < 5; ++i) p[patterns[below(r, std::size(patterns))]] = sub();
            return {{"type", "object"}, {"patternProperties", p}, {"unevaluatedProperties", false}};
        }
        case 12: {
            Json d = Json::object();
            for (int i = 0; i < 12; ++i) d[fmt::format("p{}", i)] = words(8);
            return {{"type", "object"}, {"dependentRequired", d}};
        }
        default:
            return leaf;
    }
}

TEST_F(Attack, DearSchemas) {
    const auto end = end_of_battery();
    std::vector<std::thread> threads;
    std::atomic<size_t> n = 0;
    std::mutex mutex;
    double slowest = 0;
    for (uint32_t t = 0; t < 4; ++t) {
        threads.emplace_back([&, t] {
            Random r(100 + t);
            while (Clock::now() < end && !HasFailure()) {
                const Json schema = random_schema(r, 1 + static_cast<int>(below(r, 4)));
                const bool as_tool = below(r, 3) == 0;
                Json body = {{"messages", question}, {"max_tokens", 3}};
                if (as_tool) {
                    body["tools"] = {
                        {{"type", "function"},
                         {"function", {{"name", "f"}, {"parameters", schema}, {"strict", r() % 2 == 0}}}}};
                    body["tool_choice"] = below(r, 2) == 0 ? "required" : "auto";
                } else {
                    body["response_format"] = {{"type", "json_schema"},
                                               {"json_schema", {{"name", "n"}, {"schema", schema}}}};
                }
                const std::string text = to_string(body);
                const auto start = Clock::now();
                Client client(server_->port());
                if (below(r, 5) == 0) {  // who does not wait
                    client.send(Client::request("POST", "/v1/chat/completions", text));
                    std::this_thread::sleep_for(std::chrono::milliseconds(below(r, 50)));
                    continue;
                }
                expect_decent(client.ask("POST", "/v1/chat/completions", text), "schema", text);
                const std::lock_guard lock(mutex);
                slowest = std::max(slowest, std::chrono::duration<double>(Clock::now() - start).count());
                ++n;
            }
        });
    }
    double longest_wait = 0;
    while (Clock::now() < end && !HasFailure()) {
        longest_wait = std::max(longest_wait, ask());
        std::this_thread::sleep_for(100ms);
    }
    for (std::thread& t : threads) t.join();
    EXPECT_GT(n, 20u);
    EXPECT_LT(longest_wait, 5 * patience) << "an innocent question";
    EXPECT_LT(slowest, 30 * patience);
    EXPECT_TRUE(server_->becomes_idle());
}

// Clients that come and go at every moment, over HTTP and sockets.
TEST_F(Attack, Races) {
    const auto end = end_of_battery();
    std::vector<std::thread> threads;
    for (uint32_t t = 0; t < 6; ++t) {
        threads.emplace_back([&, t] {
            Random r(200 + t);
            while (Clock::now() < end && !HasFailure()) {
                const auto pause = [&] {
                    std::this_thread::sleep_for(std::chrono::microseconds(below(r, 20'000)));
                };
                const std::string prompt =
                    std::string(1 + below(r, 2000), static_cast<char>('a' + below(r, 26)));
                const Json body = {{"prompt", prompt},
                                   {"max_tokens", below(r, 60)},
                                   {"n", 1 + below(r, 6)},
                                   {"stream", below(r, 2) == 0},
                                   {"priority", below(r, 2) == 0 ? "background" : "speed"}};
                if (below(r, 3) == 0) {
                    Socket socket(server_->port());
                    const size_t n = 1 + below(r, 8);
                    for (size_t i = 0; i < n; ++i) {
                        Json message = body;
                        message["id"] = std::to_string(below(r, 4));
                        message["max_tokens"] = below(r, 40);
                        message.erase("stream");
                        socket.send(message);
                        pause();
                        if (below(r, 2) == 0)
                            socket.send({{"type", "cancel"}, {"id", std::to_string(below(r, 4))}});
                    }
                    if (below(r, 2) == 0) socket.event();
                    continue;  // closed in the middle of whatever runs
                }
                Client client(server_->port(), below(r, 4) == 0 ? 2048 : 0);
                client.send(Client::request("POST", below(r, 4) == 0 ? "/tokenize" : "/v1/completions",
                                            to_string(body)));
                pause();
                if (below(r, 3) == 0) client.finish_sending();
                if (below(r, 2) == 0) client.receive(0.05);
                if (below(r, 3) == 0) {
                    Reply reply = client.read_reply();
                    // Whether who has closed half of the connection is still there.
                    while (reply.status == 100) reply = client.read_reply();
                    expect_decent(reply, "race", "");
                }
            }
        });
    }
    while (Clock::now() < end && !HasFailure()) {
        ask();
        std::this_thread::sleep_for(50ms);
    }
    for (std::thread& t : threads) t.join();
    EXPECT_TRUE(server_->becomes_idle());
    EXPECT_LT(ask(), 2 * patience);
}

// The same until the server ends in the middle of it.
TEST_F(Attack, RacesWithTheEnd) {
    const auto end = end_of_battery();
    for (uint32_t round = 0; Clock::now() < end; ++round) {
        TestServerOptions o;
        o.limits.drain_timeout = std::chrono::milliseconds(round % 3 * 100);
        TestServer server(o);
        std::atomic<bool> over = false;
        std::vector<std::thread> threads;
        for (uint32_t t = 0; t < 4; ++t) {
            threads.emplace_back([&, t] {
                Random r(1000 * round + t);
                while (!over) {
                    try {
                        const Json schema = random_schema(r, 2);
                        const Json body = {{"prompt", "a"},
                                           {"max_tokens", 50},
                                           {"stream", r() % 2 == 0},
                                           {"guided_json", schema}};
                        Client(server.port()).ask("POST", "/v1/completions", to_string(body));
                    } catch (const std::exception&) {  // it does not listen any more
                        return;
                    }
                }
            });
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(50 + round * 37 % 300));
        const auto start = Clock::now();
        EXPECT_EQ(server.stop(), 0);
        EXPECT_LT(std::chrono::duration<double>(Clock::now() - start).count(), 8 * patience);
        over = true;
        for (std::thread& t : threads) t.join();
    }
}

}  // namespace
}  // namespace smelt
