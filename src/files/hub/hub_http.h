// HTTP for the hub, with libcurl: GET, redirects, and what may go wrong with them. Knows no models.
#pragma once

#include <sys/socket.h>

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include "base/error.h"
#include "files/hub/hub.h"

namespace smelt {

struct HttpHead {
    long status = 0;
    std::map<std::string, std::string> fields = {};  // names in lower case; of a redirect only x-..., kept

    std::string field(const std::string& name) const;
};

struct HttpGet {
    std::string url = {};
    std::optional<std::pair<uint64_t, uint64_t>> range = {};  // [from, to)
    std::string if_range = {};
    // Called once before the data of a 2xx answer. May throw.
    std::function<void(const HttpHead&)> on_head = {};
    // Pieces of a 2xx answer. May throw.
    std::function<void(std::span<const char>)> on_data = {};
};

// Worth another try.
class HttpTrouble : public Error {
 public:
    using Error::Error;
    std::chrono::seconds wait{0};  // as the server said
    bool no_host = false;          // its name leads to no address
};

// One connection at a time. The token goes to the endpoint's own origin alone; a redirect leads to http(s)
// only, never from https to http, and to no loopback or private address unless the endpoint has one of that
// kind itself.
class HubHttp {
 public:
    HubHttp(const HubOptions& options, const std::atomic<bool>& stop);
    ~HubHttp();
    HubHttp(const HubHttp&) = delete;
    HubHttp& operator=(const HubHttp&) = delete;

    // Throws HttpTrouble, Error for what another try would not change, or what a callback threw.
    void get(const HttpGet& request);

 private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// Runs `attempt` until it succeeds. It says true for progress, which allows as many further failures.
void with_retries(const HubOptions& options, const std::atomic<bool>& stop,
                  const std::function<bool()>& progress, const std::function<void()>& attempt);

// Once in a process, before libcurl is used.
void init_curl();

struct HttpUrl {
    std::string text, scheme, origin;

    std::string shown() const { return text.substr(0, 200); }  // in errors
};
// `location` may be relative to `base`. Throws Error where it is neither http nor https.
HttpUrl parse_http_url(const std::string& location, const std::string& base = "");

// What lies nowhere in the internet, as multicast, counts as private.
enum class AddressKind { open, loopback, link_local, private_net };
struct AddressBytes {
    bool is_v6 = false;
    std::array<uint8_t, 16> bytes = {};  // network order; of IPv4 the first four
};
AddressKind kind_of(const AddressBytes& address);
AddressKind kind_of(const sockaddr& address);

}  // namespace smelt
