// The n-th allocation of a request fails, for every n until a request gets through untouched: whatever it was
// for, the request gets an answer or its connection closes, and the next one is served.
#include <gtest/gtest.h>

#include <cstdlib>
#include <new>

#include "base/memory_reserve.h"
#include "server/client.h"
#include "server/socket.h"

namespace {

std::atomic<int64_t> fail_in = 0;  // allocations until one fails; 0: none will
std::atomic<bool> has_failed = false;
std::atomic<size_t> smallest = 0;   // of those that count, in bytes
thread_local bool is_test = false;  // whose own allocations do not count

// One that counts down to zero fails: a small one, which the reserve is for, once, a large one for good.
void* allocate(size_t n, size_t alignment) {
    const bool counts = !is_test && n >= smallest && fail_in.load(std::memory_order_relaxed) > 0;
    bool fails = counts && fail_in.fetch_sub(1) == 1;
    for (;;) {
        void* p = fails ? nullptr
                  : alignment == 0
                      ? std::malloc(n)
                      : std::aligned_alloc(alignment, (n + alignment - 1) / alignment * alignment);
        if (p != nullptr) return p;
        has_failed = true;
        const std::new_handler handler = std::get_new_handler();
        if (handler == nullptr) throw std::bad_alloc();
        handler();
        fails = fails && smallest > 0;
    }
}

}  // namespace

void* operator new(size_t n) {
    return allocate(n, 0);
}
void* operator new(size_t n, std::align_val_t alignment) {
    return allocate(n, static_cast<size_t>(alignment));
}
void operator delete(void* p) noexcept {
    std::free(p);
}
void operator delete(void* p, size_t) noexcept {
    std::free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
    std::free(p);
}
void operator delete(void* p, size_t, std::align_val_t) noexcept {
    std::free(p);
}

namespace smelt {
namespace {

constexpr size_t large = 1024;  // bytes

// Every so many-th of the small ones: all of them take a minute.
int step() {
    const char* text = std::getenv("SMELT_ALLOCATION_STEP");
    return text == nullptr ? 7 : std::max(1, std::atoi(text));
}

// With the size from which on allocations fail.
class AllocationFaults : public testing::TestWithParam<size_t> {
 protected:
    AllocationFaults() : server_(options()) {
        hold_memory_reserve();
        is_test = true;
        smallest = GetParam();
    }
    ~AllocationFaults() override {
        fail_in = 0;
        is_test = false;
    }
    static TestServerOptions options() {
        TestServerOptions o;
        o.kv_tokens = 2048;
        return o;
    }

    // Until `ask` meets no failure any more, or its connection is all that failed. Ask returns what is wrong
    // with the answer that it got.
    void for_each_allocation(const std::function<std::string()>& ask) {
        int64_t n = 1;
        for (int n_untouched = 0; n_untouched < 3; n += smallest == 0 ? step() : 1) {
            has_failed = false;
            fail_in = n;
            const std::string wrong = ask();
            fail_in = 0;
            n_untouched = has_failed ? 0 : n_untouched + 1;
            ASSERT_EQ(wrong, "") << "allocation " << n;
            ASSERT_EQ(Client(server_.port()).ask("POST", "/v1/completions", hello).status, 200)
                << "after allocation " << n;
        }
        EXPECT_GT(n, smallest == 0 ? 100 : 5);
        EXPECT_TRUE(server_.becomes_idle());
        // What stayed behind would show up here.
        for (int i = 0; i < 500 * patience && server_.n_connections() > 0; ++i) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        EXPECT_EQ(server_.n_connections(), 0u);
    }

    const std::string hello = R"({"prompt":"Hello","max_tokens":1})";
    TestServer server_;
};

std::string check(const Reply& r, bool whole) {
    if (r.status == 0 || (r.status == 200 && whole)) return "";
    if (r.status == 200) return r.body;
    if (r.status != 503 && r.status != 500) return fmt::format("{} {}", r.status, r.body);
    const Json error = Json::parse(r.body).at("error");
    if (r.status == 503 && error.at("code") == "insufficient_memory" && !r.header("retry-after").empty())
        return "";
    return r.body;
}

TEST_P(AllocationFaults, OfAnAnswer) {
    for_each_allocation([&] {
        Client c(server_.port());
        return check(
            c.ask(
                "POST", "/v1/chat/completions",
                R"({"messages":[{"role":"user","content":"Hello"}],"max_tokens":4,"stop":["zzz"],"logprobs":true})",
                "Host: localhost\r\nConnection: close\r\n"),
            true);
    });
}

TEST_P(AllocationFaults, OfAStream) {
    for_each_allocation([&] {
        Client c(server_.port());
        const Reply r =
            c.ask("POST", "/v1/completions", R"({"prompt":"a b c","max_tokens":8,"n":2,"stream":true})",
                  "Host: localhost\r\nConnection: close\r\n");
        const bool ended = r.body.ends_with("data: [DONE]\n\n");
        // Cut in the middle, a client sees by the missing last chunk.
        return check(r, ended || r.body.find("[DONE]") == std::string::npos);
    });
}

TEST_P(AllocationFaults, OfAWebSocket) {
    for_each_allocation([&]() -> std::string {
        const auto start = std::chrono::steady_clock::now();
        Socket s(server_.port());
        if (s.status != 101) return s.status == 503 || s.status == 0 ? "" : std::to_string(s.status);
        s.send({{"id", 1}, {"prompt", "a"}, {"raw", true}, {"max_tokens", 3}});
        for (;;) {
            const Json e = s.event();
            if (e["type"] == "token") continue;
            const bool at_once =
                std::chrono::steady_clock::now() - start < std::chrono::seconds(10) * patience;
            return at_once ? "" : "neither an answer nor the end of the connection";
        }
    });
}

INSTANTIATE_TEST_SUITE_P(Sizes, AllocationFaults, testing::Values(0, large),
                         [](const auto& size) { return size.param == 0 ? "Any" : "Large"; });

}  // namespace
}  // namespace smelt
