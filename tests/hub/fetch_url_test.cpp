// Files from addresses that strangers name, against a server in the test's own process.
#include "files/hub/fetch_url.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "hub/hub_server.h"

namespace smelt {
namespace {

using namespace std::chrono_literals;

class FetchUrlTest : public ::testing::Test {
 protected:
    std::string fetch(const std::string& path, FetchRules rules, std::chrono::milliseconds patience = 20s) {
        return fetch_url(server_.address() + path, rules, std::chrono::steady_clock::now() + patience);
    }
    std::string error_of(const std::string& path, FetchRules rules,
                         std::chrono::milliseconds patience = 20s) {
        try {
            fetch(path, rules, patience);
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }
    void expect_error(const std::string& path, const FetchRules& rules, const std::string& says) {
        const std::string error = error_of(path, rules);
        EXPECT_NE(error.find(says), std::string::npos) << path << ": " << error;
    }

    HubServer server_;
    const FetchRules near_{.max_bytes = 1000, .private_addresses = true};
};

TEST_F(FetchUrlTest, FilesAndRedirects) {
    server_.fault = [](const HubRequest& r, HubAnswer& a) {
        if (r.path == "/file") a = {.body = std::string(1000, 'x')};
        if (r.path == "/1") a = {.status = 302, .headers = {"Location: /2"}};
        if (r.path == "/2") a = {.status = 307, .headers = {"Location: /3"}};
        if (r.path == "/3") a = {.status = 301, .headers = {"Location: /file"}};
        if (r.path == "/0") a = {.status = 301, .headers = {"Location: /1"}};
    };
    EXPECT_EQ(fetch("/file", near_), std::string(1000, 'x'));
    EXPECT_EQ(fetch("/1", near_), std::string(1000, 'x'));
    expect_error("/0", near_, "more than 3 redirects");
    expect_error("/none", near_, "answered 404");
}

TEST_F(FetchUrlTest, PrivateAddressesAreNotAsked) {
    server_.fault = [](const HubRequest&, HubAnswer& a) { a = {.body = "secret"}; };
    for (const std::string host : {"127.0.0.1", "localhost", "[::1]", "0.0.0.0", "2130706433", "127.1"}) {
        const std::string port = server_.address().substr(server_.address().rfind(':'));
        EXPECT_THROW(fetch_url("http://" + host + port + "/", {}, std::chrono::steady_clock::now() + 5s),
                     Error)
            << host;
    }
    expect_error("/", {}, "private address");
    EXPECT_TRUE(server_.requests().empty());
    ::setenv("http_proxy", server_.address().c_str(), 1);  // must not lead around
    EXPECT_THROW(fetch_url("http://no-such-host.invalid/", near_, std::chrono::steady_clock::now() + 5s),
                 Error);
    ::unsetenv("http_proxy");
    EXPECT_TRUE(server_.requests().empty());
}

TEST_F(FetchUrlTest, Bounds) {
    server_.fault = [](const HubRequest& r, HubAnswer& a) {
        a = {.body = std::string(1001, 'x')};
        if (r.path == "/slow") a = {.body = std::string(900, 'x'), .bytes_per_ms = 1};
        if (r.path == "/cut") a = {.body = std::string(900, 'x'), .cut = 10};
        if (r.path == "/file-scheme") a = {.status = 302, .headers = {"Location: file:///etc/passwd"}};
        if (r.path == "/gopher") a = {.status = 302, .headers = {"Location: gopher://127.0.0.1/x"}};
    };
    expect_error("/large", near_, "larger than 1000 bytes");
    EXPECT_NE(error_of("/cut", near_), "");
    EXPECT_NE(error_of("/slow", near_, 200ms).find("too long"), std::string::npos);
    expect_error("/file-scheme", near_, "expected http or https");
    expect_error("/gopher", near_, "expected http or https");
    for (const std::string url : {"file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "x", ""})
        EXPECT_THROW(fetch_url(url, near_, std::chrono::steady_clock::now() + 5s), Error) << url;
}

}  // namespace
}  // namespace smelt
