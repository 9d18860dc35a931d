// One file of the hub, in parts over several connections, into a partial file that outlives this process.
#pragma once

#include "files/hub/hub_cache.h"
#include "files/hub/hub_http.h"

namespace smelt {

struct Download {
    std::string url;
    const HubFile& file;
    std::filesystem::path partial, blob;  // where it grows, and where it belongs once it is verified
};

// Bytes of it that an earlier try left.
uint64_t bytes_so_far(const HubOptions& options, const Download& download);

// Fetches what is missing, compares size and hash, renames. `progress` hears the bytes of this file that are
// there. Throws Error; what is verified to be wrong and what a full disk cut short is removed, all else is
// kept.
void run_download(const HubOptions& options, const Download& download,
                  const std::function<void(uint64_t done, const char* doing)>& progress);

}  // namespace smelt
