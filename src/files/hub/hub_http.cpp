// libcurl follows no redirect here: each hop is looked at first.
#include "files/hub/hub_http.h"
#include "base/ascii.h"
#include "base/number.h"

#include <curl/curl.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <thread>

namespace smelt {

namespace {

constexpr int max_hops = 8;
constexpr size_t max_error_bytes = 4096, max_header_bytes = 64 << 10;

using CurlString = std::unique_ptr<char, decltype(&curl_free)>;
using CurlUrl = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

std::string url_part(CURLU* url, CURLUPart part, unsigned flags = 0) {
    char* text = nullptr;
    if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return "";
    return CurlString(text, curl_free).get();
}

std::chrono::seconds retry_after(const HttpHead& head) {
    const std::string text = head.field("retry-after");
    return std::chrono::seconds(text.size() < 6 ? parse_integer<unsigned>(text).value_or(0) : 0);
}

}  // namespace

void init_curl() {
    static std::once_flag once;
    std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
}

HttpUrl parse_http_url(const std::string& location, const std::string& base) {
    const CurlUrl url(curl_url(), curl_url_cleanup);
    if (!base.empty()) curl_url_set(url.get(), CURLUPART_URL, base.c_str(), 0);
    if (curl_url_set(url.get(), CURLUPART_URL, location.c_str(), CURLU_NON_SUPPORT_SCHEME) != CURLUE_OK) {
        throw Error("{}: expected an address such as https://huggingface.co", location.substr(0, 200));
    }
    HttpUrl u{.text = url_part(url.get(), CURLUPART_URL),
              .scheme = url_part(url.get(), CURLUPART_SCHEME),
              .origin = {}};
    if (u.scheme != "http" && u.scheme != "https") {
        throw Error("{}: expected http or https, found {}", location.substr(0, 200), u.scheme);
    }
    u.origin = u.scheme + "://" + url_part(url.get(), CURLUPART_HOST) + ":" +
               url_part(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT);
    return u;
}

AddressKind kind_of(const sockaddr& address) {
    AddressBytes a;
    if (address.sa_family == AF_INET) {
        std::memcpy(a.bytes.data(), &reinterpret_cast<const sockaddr_in&>(address).sin_addr, 4);
    } else if (address.sa_family == AF_INET6) {
        a.is_v6 = true;
        std::memcpy(a.bytes.data(), &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, 16);
    }
    return kind_of(a);
}

AddressKind kind_of(const AddressBytes& a) {
    const auto& b = a.bytes;
    if (a.is_v6) {
        const bool starts_with_zeros =
            std::all_of(b.begin(), b.begin() + 10, [](uint8_t x) { return x == 0; });
        const bool mapped = starts_with_zeros && b[10] == 0xff && b[11] == 0xff;
        // 64:ff9b::/96 and 2002::/16 are gateways to IPv4.
        const bool translated = b[0] == 0 && b[1] == 0x64 && b[2] == 0xff && b[3] == 0x9b;
        if (mapped || translated) return kind_of(AddressBytes{.bytes = {b[12], b[13], b[14], b[15]}});
        if (b[0] == 0x20 && b[1] == 0x02) return kind_of(AddressBytes{.bytes = {b[2], b[3], b[4], b[5]}});
        const bool is_low =
            starts_with_zeros && b[10] == 0 && b[11] == 0 && b[12] == 0 && b[13] == 0 && b[14] == 0;
        if (is_low) return AddressKind::loopback;  // :: and ::1
        if (b[0] == 0xfe && (b[1] & 0xc0) == 0x80) return AddressKind::link_local;
        const bool is_private = (b[0] & 0xfe) == 0xfc || b[0] == 0xff;
        return is_private ? AddressKind::private_net : AddressKind::open;
    }
    if (b[0] == 127 || b[0] == 0) return AddressKind::loopback;
    if (b[0] == 169 && b[1] == 254) return AddressKind::link_local;
    const bool is_private = b[0] == 10 || (b[0] == 172 && b[1] / 16 == 1) || (b[0] == 192 && b[1] == 168) ||
                            (b[0] == 100 && b[1] / 64 == 1) || (b[0] == 198 && b[1] / 2 == 9) ||
                            (b[0] == 192 && b[1] == 0 && b[2] == 0) || b[0] >= 224;
    return is_private ? AddressKind::private_net : AddressKind::open;
}

std::string HttpHead::field(const std::string& name) const {
    const auto it = fields.find(name);
    return it == fields.end() ? "" : it->second;
}

// The state of one hop is in here, because libcurl's callbacks get one pointer.
struct HubHttp::Impl {
    Impl(const HubOptions& o, const std::atomic<bool>& s)
        : options(o), stop(s), home(parse_http_url(o.endpoint)) {
        init_curl();
        curl = curl_easy_init();
        if (curl == nullptr) throw Error("libcurl does not start");
    }
    ~Impl() {
        curl_slist_free_all(headers);
        curl_easy_cleanup(curl);
    }
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;

    void set_up(const HttpUrl& url, const HttpGet& r);
    void add_header(const std::string& line) { headers = curl_slist_append(headers, line.c_str()); }
    // Performs one hop; throws what a callback threw, or HttpTrouble.
    void perform(const HttpUrl& url);
    [[noreturn]] void refuse(const HttpUrl& url) const;

    // Exceptions must not fly through libcurl.
    template <class F>
    bool guarded(F work) {
        try {
            work();
            return true;
        } catch (...) {
            thrown = std::current_exception();
            return false;
        }
    }

    static size_t on_header(char* text, size_t, size_t n, void* self);
    static size_t on_data(char* text, size_t, size_t n, void* self);
    static int on_progress(void* self, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
        return static_cast<Impl*>(self)->stop ? 1 : 0;
    }
    static curl_socket_t open_socket(void* self, curlsocktype, curl_sockaddr* address);

    const HubOptions& options;
    const std::atomic<bool>& stop;
    HttpUrl home;
    AddressKind home_kind = AddressKind::open;
    CURL* curl = nullptr;
    curl_slist* headers = nullptr;

    // Of the hop under way.
    const HttpGet* request = nullptr;
    bool first_hop = true;
    bool forbidden_address = false;
    HttpHead head;
    size_t header_bytes = 0;
    std::string error_body;
    std::exception_ptr thrown;
    char message[CURL_ERROR_SIZE] = {};
};

HubHttp::HubHttp(const HubOptions& options, const std::atomic<bool>& stop)
    : impl_(std::make_unique<Impl>(options, stop)) {}
HubHttp::~HubHttp() = default;

size_t HubHttp::Impl::on_header(char* text, size_t, size_t n, void* self) {
    Impl& h = *static_cast<Impl*>(self);
    h.header_bytes += n;
    if (h.header_bytes > max_header_bytes) return 0;
    std::string line(text, n);
    while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) line.pop_back();
    if (line.starts_with("HTTP/")) {
        // After "100 Continue", or what a proxy says before.
        std::erase_if(h.head.fields, [](const auto& f) { return !f.first.starts_with("x-"); });
    } else if (const size_t colon = line.find(':'); colon != std::string::npos) {
        const size_t start = line.find_first_not_of(" \t", colon + 1);
        const std::string name = ascii_lower(line.substr(0, colon));
        const std::string value = start == std::string::npos ? "" : line.substr(start);
        const bool kept = name.starts_with("x-") && !h.first_hop && h.head.fields.contains(name);
        if (!kept) h.head.fields[name] = value;
    } else if (line.empty()) {
        curl_easy_getinfo(h.curl, CURLINFO_RESPONSE_CODE, &h.head.status);
        const bool good = h.head.status >= 200 && h.head.status < 300;
        if (good && h.request->on_head && !h.guarded([&] { h.request->on_head(h.head); })) return 0;
    }
    return n;
}

size_t HubHttp::Impl::on_data(char* text, size_t, size_t n, void* self) {
    Impl& h = *static_cast<Impl*>(self);
    if (h.head.status < 200 || h.head.status >= 300) {
        if (h.error_body.size() < max_error_bytes) h.error_body.append(text, n);
        return n;
    }
    return h.guarded([&] { h.request->on_data({text, n}); }) ? n : 0;
}

curl_socket_t HubHttp::Impl::open_socket(void* self, curlsocktype, curl_sockaddr* address) {
    Impl& h = *static_cast<Impl*>(self);
    const AddressKind kind = kind_of(address->addr);
    if (h.first_hop) {
        h.home_kind = kind;
    } else if (kind != AddressKind::open && kind != h.home_kind) {
        h.forbidden_address = true;
        return CURL_SOCKET_BAD;
    }
    return ::socket(address->family, address->socktype, address->protocol);
}

void HubHttp::Impl::set_up(const HttpUrl& url, const HttpGet& r) {
    request = &r;
    forbidden_address = false;
    header_bytes = 0;
    error_body.clear();
    thrown = nullptr;
    message[0] = '\0';
    curl_easy_reset(curl);
    curl_slist_free_all(std::exchange(headers, nullptr));
    if (!options.token.empty() && url.origin == home.origin)
        add_header("Authorization: Bearer " + options.token);
    if (!r.if_range.empty()) add_header("If-Range: " + r.if_range);
    if (r.range) add_header(fmt::format("Range: bytes={}-{}", r.range->first, r.range->second - 1));
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_URL, url.text.c_str());
#if LIBCURL_VERSION_NUM >= 0x075500
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
#else
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS, static_cast<long>(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "smelt");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, 30L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(curl, CURLOPT_LOW_SPEED_TIME, static_cast<long>(options.stall_timeout.count()));
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, message);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, &on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, this);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &on_data);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, this);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, &on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, this);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, &open_socket);
    curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, this);
    if (!options.ca_bundle.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, options.ca_bundle.c_str());
}

void HubHttp::Impl::perform(const HttpUrl& url) {
    const CURLcode code = curl_easy_perform(curl);
    if (thrown) std::rethrow_exception(thrown);
    if (stop) throw Error("stopped");
    if (forbidden_address) throw Error("{}: the hub leads to a private address, which is refused", url.text);
    if (code == CURLE_OK) return;
    const char* why = message[0] != '\0' ? message : curl_easy_strerror(code);
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
        throw Error("{}: {}", url.origin, why);
    HttpTrouble trouble("{}: {}", url.origin, why);
    trouble.no_host = code == CURLE_COULDNT_RESOLVE_HOST || code == CURLE_COULDNT_RESOLVE_PROXY;
    throw trouble;
}

void HubHttp::Impl::refuse(const HttpUrl& url) const {
    const std::string code = head.field("x-error-code"), said = head.field("x-error-message");
    const std::string what = said.empty() ? fmt::format("the server answered {}", head.status) : said;
    if (head.status == 408 || head.status == 429 || head.status >= 500) {
        HttpTrouble trouble("{}: {}", url.origin, what);
        trouble.wait = retry_after(head);
        throw trouble;
    }
    if (code == "GatedRepo") {
        throw Error("{}: its terms must be accepted there first, and HF_TOKEN be set to your token",
                    url.text);
    }
    if (head.status == 401 || (head.status == 403 && options.token.empty())) {
        throw Error("{}: {}: no such model, or one that needs a token: set HF_TOKEN to yours", url.text,
                    what);
    }
    if (head.status == 403) throw Error("{}: {}: the token does not give access to it", url.text, what);
    throw Error("{}: {}", url.text,
                head.status == 404 && said.empty() ? "there is no such model, revision or file" : what);
}

void HubHttp::get(const HttpGet& request) {
    Impl& h = *impl_;
    HttpUrl url = parse_http_url(request.url);
    h.head = {};
    for (int hop = 0; hop < max_hops; ++hop) {
        h.first_hop = hop == 0;
        h.set_up(url, request);
        h.perform(url);
        const long status = h.head.status;
        if (status >= 200 && status < 300) return;
        const std::string location = h.head.field("location");
        if (status < 300 || status >= 400 || location.empty()) h.refuse(url);
        const HttpUrl next = parse_http_url(location, url.text);
        if (url.scheme == "https" && next.scheme == "http") {
            throw Error("{}: leads from https to http, which is refused", url.text);
        }
        url = next;
    }
    throw Error("{}: more than {} redirects", request.url, max_hops);
}

void with_retries(const HubOptions& options, const std::atomic<bool>& stop,
                  const std::function<bool()>& progress, const std::function<void()>& attempt) {
    using namespace std::chrono;
    constexpr seconds longest_wait{120};
    for (int failures = 0;;) {
        try {
            return attempt();
        } catch (const HttpTrouble& e) {
            failures = progress() ? 1 : failures + 1;
            if (failures >= options.max_failures) throw Error("{} (tried {} times)", e.what(), failures);
            if (e.wait > longest_wait) throw Error("{}; it asks to wait {} s", e.what(), e.wait.count());
            const milliseconds wait =
                std::max<milliseconds>(e.wait, options.retry_wait * (1 << std::min(failures - 1, 8)));
            const auto until = steady_clock::now() + wait;
            while (!stop && steady_clock::now() < until)
                std::this_thread::sleep_for(std::min(wait, milliseconds(50)));
            if (stop) throw Error("stopped");
        }
    }
}

}  // namespace smelt
