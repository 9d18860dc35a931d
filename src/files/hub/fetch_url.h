// One file from a web address, within bounds: for addresses that strangers name. Knows nothing of hubs and
// models.
#pragma once

#include <chrono>
#include <string>

namespace smelt {

struct FetchRules {
    size_t max_bytes = size_t{20} << 20;
    int max_redirects = 3;
    bool private_addresses = false;  // else loopback, private and link-local ones are refused, at each hop
};

// http and https, without a proxy. Throws Error naming the address: what is refused, what the server
// answered, or that it was not done by `deadline`.
std::string fetch_url(const std::string& url, const FetchRules& rules,
                      std::chrono::steady_clock::time_point deadline);

}  // namespace smelt
