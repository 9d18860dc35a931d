// The hub's client against a server that has every fault.
#include "hub/hub_fixture.h"

namespace smelt {
namespace {

using HubFaultsTest = HubTest;

TEST_F(HubFaultsTest, WhatWasFetchedBeforeACutIsNotFetchedAgain) {
    hub_.fault = [](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r) && r.range()->first >= 500'000) a.cut = 0;
    };
    options_.max_failures = 2;
    EXPECT_NE(error_of().find("tried 2 times"), std::string::npos) << error_of();
    EXPECT_TRUE(shows_nothing());
    EXPECT_TRUE(fs::exists(partial()));
    hub_.fault = nullptr;
    hub_.forget();
    const uint64_t missing = plan_pull(options_, {.repo = "org/model"}).n_missing;
    EXPECT_LE(missing, 900'000u);
    expect_pulled();
    EXPECT_LE(hub_.bytes_sent(), missing + 10'000);
    for (const HubRequest& r : hub_.downloads()) {
        if (!is_weights(r)) continue;
        EXPECT_EQ(r.field("if-range"), '"' + weights().hash() + '"');
    }
    EXPECT_FALSE(fs::exists(partial()));
}

TEST_F(HubFaultsTest, ConnectionsThatBreakAndServersInTroubleAreTriedAgain) {
    options_.max_failures = 100;
    options_.retry_wait = std::chrono::milliseconds(0);
    std::atomic<int> n = 0;
    hub_.fault = [&](const HubRequest&, HubAnswer& a) {
        switch (n++ % 5) {
            case 0:
                a = {.status = 503, .headers = {"Retry-After: 0"}};
                break;
            case 1:
                a = {.status = 429};
                break;
            case 2:
                a.cut = a.body.size() / 2;
                break;
            case 3:
                a = {.status = 500};
                break;
            default:
                break;
        }
    };
    expect_pulled();
}

TEST_F(HubFaultsTest, AServerThatAsksForALongWaitEndsThePull) {
    hub_.fault = [](const HubRequest&, HubAnswer& a) {
        a = {.status = 429, .headers = {"Retry-After: 7200"}};
    };
    EXPECT_NE(error_of().find("asks to wait 7200 s"), std::string::npos) << error_of();
}

TEST_F(HubFaultsTest, RefusalsAreSaidOnceAndNotTriedAgain) {
    struct Case {
        HubAnswer answer;
        std::string expected;
    };
    const Case cases[] = {
        {{.status = 401, .headers = {"X-Error-Code: RepoNotFound", "X-Error-Message: Repository not found"}},
         "set HF_TOKEN"},
        {{.status = 403}, "set HF_TOKEN"},
        {{.status = 403, .headers = {"X-Error-Code: GatedRepo"}}, "terms must be accepted"},
        {{.status = 404}, "no such model, revision or file"},
        {{.status = 404, .headers = {"X-Error-Message: Invalid rev id"}}, "Invalid rev id"},
        {{.status = 302}, "302"},
        {{.body = "not JSON"}, "revision/main"},
        {{.body = "{}"}, "expected the hub's list of files"},
    };
    for (const Case& c : cases) {
        hub_.forget();
        hub_.fault = [&](const HubRequest&, HubAnswer& a) { a = c.answer; };
        EXPECT_NE(error_of().find(c.expected), std::string::npos) << c.expected << ": " << error_of();
        EXPECT_EQ(hub_.requests().size(), 1u) << c.expected;
    }
    hub_.fault = [](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r)) a = {.status = 403};
    };
    options_.token = "secret";
    EXPECT_NE(error_of().find("the token does not give access"), std::string::npos) << error_of();
    EXPECT_TRUE(shows_nothing());
}

TEST_F(HubFaultsTest, ContentWithAnotherHashIsRemoved) {
    for (const char* name : {"model.safetensors", "config.json"}) {
        hub_.fault = [&](const HubRequest& r, HubAnswer& a) {
            if (r.path.ends_with(name) && !a.body.empty()) a.body[0] ^= 1;
        };
        EXPECT_NE(error_of().find(fmt::format("{}: expected", name)), std::string::npos) << error_of();
        EXPECT_TRUE(shows_nothing());
        EXPECT_FALSE(fs::exists(root() / "blobs" / hub_.files.at(name).hash()));
        EXPECT_FALSE(fs::exists(root() / "blobs" / (hub_.files.at(name).hash() + ".smelt-partial")));
        remove_cached(options_, {.repo = "org/model"});
    }
    hub_.fault = nullptr;
    expect_pulled();
}

TEST_F(HubFaultsTest, LengthsThatLie) {
    // Less comes than was said: what came is kept, the rest asked for.
    std::atomic<int> n = 0;
    hub_.fault = [&](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r) && n++ < 3) a.cut = 1000;
    };
    expect_pulled();
    remove_cached(options_, {.repo = "org/model"});
    // Less is said than was asked for.
    hub_.fault = [&](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r) && a.body.size() > 60'000) a.length = 50'000;
    };
    expect_pulled();
    remove_cached(options_, {.repo = "org/model"});
    // More comes than was asked for.
    hub_.fault = [](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r)) a.body += "more";
    };
    EXPECT_NE(error_of().find("more than it was asked for"), std::string::npos) << error_of();
    // Another range.
    hub_.fault = [](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r)) a.headers.back() = "Content-Range: bytes 0-99999/1000001";
    };
    EXPECT_NE(error_of().find("the server answered with bytes 0-99999/1000001"), std::string::npos)
        << error_of();
    EXPECT_TRUE(shows_nothing());
}

TEST_F(HubFaultsTest, AServerWithoutRangesGivesTheFileInOnePiece) {
    std::atomic<int> n = 0;
    hub_.fault = [&](const HubRequest& r, HubAnswer& a) {
        if (!is_weights(r)) return;
        HubRequest whole = r;
        whole.fields.erase("range");
        a = HubServer::file_answer(whole, weights());
        if (r.field("range").empty() && n++ < 2) a.cut = 700'000;
    };
    expect_pulled();
    // One that sends more than the file has is no server to trust.
    remove_cached(options_, {.repo = "org/model"});
    hub_.fault = [&](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r)) a = {.body = weights().content + "more"};
    };
    EXPECT_NE(error_of().find("more than the file has"), std::string::npos) << error_of();
}

TEST_F(HubFaultsTest, AFileThatChangesMeanwhile) {
    std::atomic<int> n = 0;
    hub_.fault = [&](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r) && n++ == 5) a.headers[1] = "X-Linked-Etag: \"" + std::string(64, '0') + "\"";
    };
    EXPECT_NE(error_of().find("changed on the hub"), std::string::npos) << error_of();
    EXPECT_TRUE(shows_nothing());
    // Behind a redirect only If-Range tells: the whole of the new version comes, and the hash decides.
    remove_cached(options_, {.repo = "org/model"});
    n = 0;
    hub_.fault = [&](const HubRequest& r, HubAnswer& a) {
        if (!is_weights(r)) return;
        a.headers[1] = "X-Other: 1";
        if (n++ < 5)
            a.headers[0] = "ETag: \"before\"";
        else if (r.field("if-range") == "\"before\"")
            a = {.headers = {"ETag: \"after\""}, .body = weights().content};
    };
    expect_pulled();
}

TEST_F(HubFaultsTest, TheTokenGoesToTheHubAlone) {
    HubServer cdn;
    cdn.fault = [&](const HubRequest& r, HubAnswer& a) { a = HubServer::file_answer(r, weights()); };
    hub_.fault = [&](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r))
            a = {.status = 302, .headers = {"Location: " + cdn.address() + "/signed?x=1", a.headers[1]}};
        if (r.path.ends_with("tokenizer.json"))
            a = {.status = 307, .headers = {"Location: /moved/tokenizer"}};
        if (r.path == "/moved/tokenizer") a = HubServer::file_answer(r, hub_.files.at("tokenizer.json"));
    };
    options_.token = "secret";
    expect_pulled();
    EXPECT_FALSE(cdn.requests().empty());
    for (const HubRequest& r : cdn.requests()) EXPECT_EQ(r.field("authorization"), "");
    for (const HubRequest& r : hub_.requests()) EXPECT_EQ(r.field("authorization"), "Bearer secret");
}

TEST_F(HubFaultsTest, RedirectsThatLeadAstray) {
    const std::pair<const char*, const char*> cases[] = {
        {"file:///etc/passwd", "expected http or https, found file"},
        {"ftp://127.0.0.1/x", "expected http or https, found ftp"},
        {"http://169.254.169.254/latest/meta-data", "private address"},
        {"http://10.0.0.1/x", "private address"},
        {"http://[::ffff:10.0.0.1]/x", "private address"},
        {"http://[fe80::1]/x", "private address"},
        {"//", "expected an address"},
    };
    for (const auto& [location, expected] : cases) {
        hub_.fault = [&](const HubRequest& r, HubAnswer& a) {
            if (is_weights(r)) a = {.status = 302, .headers = {fmt::format("Location: {}", location)}};
        };
        EXPECT_NE(error_of().find(expected), std::string::npos) << location << ": " << error_of();
    }
    hub_.fault = [](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r)) a = {.status = 302, .headers = {"Location: " + r.path}};
    };
    EXPECT_NE(error_of().find("redirects"), std::string::npos) << error_of();
    EXPECT_TRUE(shows_nothing());
}

TEST_F(HubFaultsTest, APartialFileOfAnotherSizeOrProgramIsNotTrusted) {
    fs::create_directories(partial().parent_path());
    std::ofstream(partial()) << "short";
    expect_pulled();
    remove_cached(options_, {.repo = "org/model"});
    fs::create_directories(partial().parent_path());
    std::ofstream(partial()) << std::string(1'000'000 + 256 + 10 * 8, '\xff');
    expect_pulled();
}

TEST_F(HubFaultsTest, NoPlaceOnTheDisk) {
    hub_.fault = [&](const HubRequest& r, HubAnswer& a) {
        if (!r.path.starts_with("/api")) return;
        Json json = Json::parse(a.body);
        for (Json& f : json["siblings"]) {
            if (f["rfilename"] == "model.safetensors") f["lfs"]["size"] = uint64_t{1} << 60;
        }
        a.body = to_string(json);
    };
    EXPECT_NE(error_of().find("GB are free"), std::string::npos) << error_of();
    EXPECT_TRUE(hub_.downloads().empty());
}

}  // namespace
}  // namespace smelt
