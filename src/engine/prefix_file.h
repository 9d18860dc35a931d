// Cached prefixes on disk, so that they survive a restart: KV blocks with the token ids that find them.
#pragma once

#include <filesystem>
#include <string>

#include "engine/kv_cache.h"
#include "engine/model_runner.h"

namespace smelt {

struct PrefixFile {
    std::filesystem::path path = {};  // empty: none
    // Model, device, formats: what was computed for another owner is not used.
    std::string owner = {};
};

// Writes what is cached, the whole file or nothing; readable by its owner alone, because the ids are what
// people wrote. No sequence may hold a block. Returns the number of blocks. Throws Error.
size_t save_prefixes(const PrefixFile& file, const KvCache& cache, ModelRunner& runner);

// Into an empty cache, as much as it has room for; how many blocks. 0 where there is no file, or one of
// another owner. Throws Error: a damaged file, of which nothing is used.
size_t load_prefixes(const PrefixFile& file, KvCache& cache, ModelRunner& runner);

}  // namespace smelt
