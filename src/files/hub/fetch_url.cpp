// A libcurl handle for each file: nothing is kept between two.
#include "files/hub/fetch_url.h"

#include <curl/curl.h>

#include <memory>

#include "base/error.h"
#include "files/hub/hub_http.h"

namespace smelt {

namespace {

struct Hop {
    const FetchRules& rules;
    std::string body = {};
    bool is_too_large = false, is_private = false;
};

size_t on_data(char* text, size_t, size_t n, void* self) {
    Hop& hop = *static_cast<Hop*>(self);
    hop.is_too_large = hop.body.size() + n > hop.rules.max_bytes;
    if (hop.is_too_large) return 0;
    hop.body.append(text, n);
    return n;
}

curl_socket_t open_socket(void* self, curlsocktype, curl_sockaddr* address) {
    Hop& hop = *static_cast<Hop*>(self);
    if (!hop.rules.private_addresses && kind_of(address->addr) != AddressKind::open) {
        hop.is_private = true;
        return CURL_SOCKET_BAD;
    }
    return ::socket(address->family, address->socktype, address->protocol);
}

}  // namespace

std::string fetch_url(const std::string& url, const FetchRules& rules,
                      std::chrono::steady_clock::time_point deadline) {
    using namespace std::chrono;
    init_curl();
    const std::unique_ptr<CURL, decltype(&curl_easy_cleanup)> curl(curl_easy_init(), curl_easy_cleanup);
    if (curl == nullptr) throw Error("libcurl does not start");
    HttpUrl at = parse_http_url(url);
    for (int hops = 0; hops <= rules.max_redirects; ++hops) {
        const auto left = duration_cast<milliseconds>(deadline - steady_clock::now()).count();
        if (left <= 0) throw Error("{}: it took too long", at.shown());
        Hop hop{rules};
        const auto set = [&](CURLoption option, auto value) {
            if (curl_easy_setopt(curl.get(), option, value) != CURLE_OK)
                throw Error("libcurl does not know option {}", static_cast<int>(option));
        };
        curl_easy_reset(curl.get());
        set(CURLOPT_URL, at.text.c_str());
        set(CURLOPT_FOLLOWLOCATION, 0L);
        set(CURLOPT_NOSIGNAL, 1L);
        set(CURLOPT_PROXY, "");  // the address that is looked at is the one that is asked
        set(CURLOPT_USERAGENT, "smelt");
        set(CURLOPT_TIMEOUT_MS, static_cast<long>(left));
        set(CURLOPT_WRITEFUNCTION, &on_data);
        set(CURLOPT_WRITEDATA, &hop);
        set(CURLOPT_OPENSOCKETFUNCTION, &open_socket);
        set(CURLOPT_OPENSOCKETDATA, &hop);
        const CURLcode code = curl_easy_perform(curl.get());
        if (hop.is_private) throw Error("{}: leads to a private address, which is refused", at.shown());
        if (hop.is_too_large) throw Error("{}: larger than {} bytes", at.shown(), rules.max_bytes);
        if (code == CURLE_OPERATION_TIMEDOUT) throw Error("{}: it took too long", at.shown());
        if (code != CURLE_OK) throw Error("{}: {}", at.shown(), curl_easy_strerror(code));
        long status = 0;
        curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
        if (status >= 200 && status < 300) return std::move(hop.body);
        const char* next = nullptr;
        curl_easy_getinfo(curl.get(), CURLINFO_REDIRECT_URL, &next);
        if (status < 300 || status >= 400 || next == nullptr)
            throw Error("{}: the server answered {}", at.shown(), status);
        HttpUrl to = parse_http_url(next);
        if (at.scheme == "https" && to.scheme == "http")
            throw Error("{}: leads from https to http, which is refused", at.shown());
        at = std::move(to);
    }
    throw Error("{}: more than {} redirects", url.substr(0, 200), rules.max_redirects);
}

}  // namespace smelt
