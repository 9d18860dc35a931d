// Long ones: ctest -L soak. SMELT_SOAK_SECONDS says how long the mixture of clients lasts; default 30.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>

#include "server/client.h"

namespace smelt {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

const std::string path = "/v1/completions";

double resident_mib() {
    std::ifstream in("/proc/self/statm");
    size_t all = 0, resident = 0;
    in >> all >> resident;
    return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / 0x1p20;
}

size_t n_open_files() {
    const std::filesystem::directory_iterator files("/proc/self/fd");
    return static_cast<size_t>(std::distance(begin(files), end(files)));
}

// Mann and Whitney: how far the ranks of one sample are from those of the other, in standard deviations.
double rank_difference(const std::vector<double>& a, const std::vector<double>& b) {
    std::vector<std::pair<double, bool>> all;
    for (const double x : a) all.emplace_back(x, true);
    for (const double x : b) all.emplace_back(x, false);
    std::ranges::sort(all);
    double rank_sum = 0;
    for (size_t i = 0; i < all.size(); ++i) rank_sum += all[i].second ? static_cast<double>(i + 1) : 0;
    const auto n = static_cast<double>(a.size()), m = static_cast<double>(b.size());
    return (rank_sum - n * (n + m + 1) / 2) / std::sqrt(n * m * (n + m + 1) / 12);
}

// Right but for the first byte, or right but for the last: over a connection nobody can tell which.
TEST(Keys, AWrongKeyTakesAsLongAsAnAlmostRightOne) {
    TestServerOptions o;
    o.access.api_keys = {std::string(64, 'k')};
    TestServer server(o);
    Client client(server.port());
    std::string first = o.access.api_keys[0], last = first;
    first.front() = 'x';
    last.back() = 'x';
    std::vector<double> times[2];
    std::mt19937 random(1);
    for (int i = 0; i < 40'000; ++i) {
        const bool which = random() % 2 == 0;
        const auto start = Clock::now();
        const Reply r =
            client.ask("GET", "/v1/models", "",
                       "Host: localhost\r\nAuthorization: Bearer " + (which ? first : last) + "\r\n");
        times[which].push_back(std::chrono::duration<double>(Clock::now() - start).count());
        ASSERT_EQ(r.status, 401);
    }
    // p > 0.01, on both sides.
    EXPECT_LT(std::fabs(rank_difference(times[0], times[1])), 2.58);
}

TEST(Soak, TenThousandSchemasLeaveNothingBehind) {
    TestServer server;
    Client client(server.port());
    const auto ask = [&](int i) {
        const std::string body = fmt::format(
            R"({{"messages":[{{"role":"user","content":"a"}}],"max_tokens":1,"response_format":{{"type":"json_schema","json_schema":{{"name":"n{}","schema":{{"const":{}}}}}}}}})",
            i, i);
        ASSERT_EQ(client.ask("POST", "/v1/chat/completions", body).status, 200);
    };
    for (int i = 0; i < 2000; ++i) ask(i);
    const double before = resident_mib();
    for (int i = 2000; i < 10'000; ++i) ask(i);
    EXPECT_LT(resident_mib() - before, 8);
}

// Twenty clients: some ask, some read slowly, some vanish, some send nonsense or too much.
TEST(Soak, AMixtureOfClientsLeavesTheServerAsItWas) {
    const char* text = std::getenv("SMELT_SOAK_SECONDS");
    const double seconds = text == nullptr ? 30 : std::atof(text);
    TestServerOptions o;
    o.limits.header_timeout = o.limits.body_timeout = 1s;
    o.limits.write_timeout = 1s;
    o.limits.max_buffered_bytes = size_t{32} << 10;
    TestServer server(o);
    const std::string expected = Client(server.port())
                                     .ask("POST", path, R"({"prompt":"The","max_tokens":20,"temperature":0})")
                                     .json()["choices"][0]["text"];
    std::atomic<bool> stop = false;
    std::atomic<int> n_asked = 0;
    std::vector<std::thread> threads;
    for (int c = 0; c < 20; ++c) {
        threads.emplace_back([&, c] {
            std::mt19937 random(static_cast<uint32_t>(c));
            while (!stop) {
                ++n_asked;
                Client client(server.port(), c % 5 == 1 ? 2048 : 0);
                const std::string stream =
                    R"({"prompt":"a","max_tokens":400,"ignore_eos":true,"stream":true,"logprobs":5})";
                if (c % 5 == 0) {
                    const Reply r =
                        client.ask("POST", path, R"({"prompt":"The","max_tokens":20,"temperature":0})");
                    EXPECT_EQ(r.status, 200);
                    EXPECT_EQ(r.json()["choices"][0]["text"], expected);
                } else if (c % 5 == 1) {
                    client.send(Client::request("POST", path, stream));
                    std::this_thread::sleep_for(std::chrono::milliseconds(random() % 3000));
                } else if (c % 5 == 2) {
                    client.send(Client::request("POST", path, stream));
                    client.receive(0.001 * (random() % 100));
                } else if (c % 5 == 3) {
                    std::string bytes(1 + random() % 3000, '\0');
                    for (char& b : bytes) b = static_cast<char>(random());
                    client.send(random() % 2 == 0 ? bytes : Client::request("POST", path, bytes));
                    client.receive(1);
                } else {
                    client.send("POST " + path +
                                " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
                    for (int i = 0; i < 300 && client.send("10000\r\n" + std::string(65536, ' ') + "\r\n");
                         ++i) {
                    }
                }
            }
        });
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds / 3));
    const double after_warm_up = resident_mib();
    std::this_thread::sleep_for(std::chrono::duration<double>(seconds * 2 / 3));
    const double at_the_end = resident_mib();
    stop = true;
    for (std::thread& t : threads) t.join();
    EXPECT_TRUE(server.becomes_idle());
    for (int i = 0; i < 1000 * patience && server.n_connections() > 0; ++i) std::this_thread::sleep_for(10ms);
    EXPECT_EQ(server.n_connections(), 0u);
    EXPECT_LT(n_open_files(), 40u);
    EXPECT_LT(at_the_end - after_warm_up, 32) << n_asked << " requests";
    EXPECT_EQ(Client(server.port()).ask("GET", "/health").status, 200);
}

}  // namespace
}  // namespace smelt
