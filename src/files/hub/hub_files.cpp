// What an id means, and which files of a repository make a model. Pure: no network, and of the disk only
// whether a path exists.
#include <algorithm>
#include <array>
#include <cctype>
#include <map>

#include "base/ascii.h"
#include "base/error.h"
#include "base/number.h"
#include "files/hub/hub_cache.h"

namespace smelt {

namespace fs = std::filesystem;

namespace {

bool is_root_file(std::string_view name) {
    return name.find('/') == std::string_view::npos;
}

// What a model needs beside its weights.
bool is_model_text(std::string_view name) {
    constexpr std::array names = {"config.json",          "generation_config.json",
                                  "tokenizer.json",       "tokenizer_config.json",
                                  "vocab.json",           "merges.txt",
                                  "tokenizer.model",      "special_tokens_map.json",
                                  "added_tokens.json",    "chat_template.jinja",
                                  "chat_template.json",   "modules.json",
                                  "1_Pooling/config.json"};
    return std::ranges::find(names, name) != names.end();
}

// "model-00001-of-00004" -> {"model", 1, 4}
struct Shard {
    std::string stem;
    int index = 0, count = 0;
};
std::optional<Shard> parse_shard(const std::string& stem) {
    constexpr size_t n = std::string_view("-00001-of-00004").size();
    if (stem.size() < n) return std::nullopt;
    const std::string tail = stem.substr(stem.size() - n);
    const auto digits = [&](size_t from) {
        return std::all_of(tail.begin() + static_cast<ptrdiff_t>(from),
                           tail.begin() + static_cast<ptrdiff_t>(from + 5),
                           [](char c) { return c >= '0' && c <= '9'; });
    };
    if (tail[0] != '-' || tail.substr(6, 4) != "-of-" || !digits(1) || !digits(10)) return std::nullopt;
    return Shard{stem.substr(0, stem.size() - n), *parse_integer<int>(tail.substr(1, 5)),
                 *parse_integer<int>(tail.substr(10))};
}

using Files = std::vector<HubFile>;

Files with_name(const HubListing& listing, const std::function<bool(const std::string&)>& wanted) {
    Files files;
    std::ranges::copy_if(listing.files, std::back_inserter(files),
                         [&](const HubFile& f) { return wanted(f.name); });
    std::ranges::sort(files, {}, &HubFile::name);
    return files;
}

// Weights in the root with this ending: model.safetensors or its shards, before whatever else ends so.
Files weights(const HubListing& listing, const std::string& main, const std::string& ending) {
    const auto is_main = [&](const std::string& name) {
        if (!is_root_file(name) || !name.ends_with(ending)) return false;
        const std::string stem = name.substr(0, name.size() - ending.size());
        const auto shard = parse_shard(stem);
        return stem == main || (shard && shard->stem == main);
    };
    Files files = with_name(listing, is_main);
    if (files.empty()) {
        files = with_name(
            listing, [&](const std::string& name) { return is_root_file(name) && name.ends_with(ending); });
    }
    // All shards, or none at all.
    for (const HubFile& f : files) {
        const auto shard = parse_shard(f.name.substr(0, f.name.size() - ending.size()));
        if (!shard) continue;
        const auto n = std::ranges::count_if(files, [&](const HubFile& g) {
            const auto other = parse_shard(g.name.substr(0, g.name.size() - ending.size()));
            return other && other->stem == shard->stem;
        });
        if (n != shard->count)
            throw Error("{}: {} of {} shards are there", listing.id.text(), n, shard->count);
    }
    return files;
}

Files folder_model(const HubListing& listing) {
    std::string index = "model.safetensors.index.json";
    Files files = weights(listing, "model", ".safetensors");
    if (files.empty()) {
        files = weights(listing, "pytorch_model", ".bin");
        index = "pytorch_model.bin.index.json";
    }
    if (files.empty()) return {};
    const Files texts =
        with_name(listing, [&](const std::string& name) { return is_model_text(name) || name == index; });
    const bool has_config = std::ranges::find(texts, "config.json", &HubFile::name) != texts.end();
    if (!has_config) return {};
    files.insert(files.begin(), texts.begin(), texts.end());
    return files;
}

// GGUF models of a repository: a name each, split ones as one; projectors and importance matrices are no
// models.
std::map<std::string, Files> gguf_models(const HubListing& listing) {
    std::map<std::string, Files> models;
    std::map<std::string, int> expected;
    for (const HubFile& f :
         with_name(listing, [](const std::string& name) { return name.ends_with(".gguf"); })) {
        const std::string stem = f.name.substr(0, f.name.size() - std::string_view(".gguf").size());
        const std::string base = ascii_upper(fs::path(stem).filename().string());
        if (base.starts_with("MMPROJ") || base.find("IMATRIX") != std::string::npos) continue;
        const auto shard = parse_shard(stem);
        const std::string name = shard ? shard->stem : stem;
        if (shard) expected[name] = shard->count;
        models[name].push_back(f);
    }
    for (const auto& [name, count] : expected) {
        if (static_cast<int>(models[name].size()) != count) models.erase(name);
    }
    return models;
}

// "Q4_K_M" in "model-Q4_K_M", "model.q4_k_m" or "Q4_K_M/model", and not in "model-IQ4_K_M2".
bool has_tag(const std::string& name, const std::string& tag) {
    const std::string in = ascii_upper(name), what = ascii_upper(tag);
    const auto is_border = [&](size_t i) {
        return i >= in.size() || in[i] == '-' || in[i] == '.' || in[i] == '/';
    };
    for (size_t at = in.find(what); at != std::string::npos; at = in.find(what, at + 1)) {
        if ((at == 0 || is_border(at - 1) || in[at - 1] == '_') && is_border(at + what.size())) return true;
    }
    return false;
}

std::string choices(const std::map<std::string, Files>& models) {
    std::string text;
    for (const auto& [name, files] : models) {
        uint64_t n = 0;
        for (const HubFile& f : files) n += f.size;
        text += fmt::format("{}{} ({:.1f} GB)", text.empty() ? "" : ", ", files.front().name,
                            static_cast<double>(n) / 1e9);
        if (text.size() > 2000) return text + ", …";
    }
    return text;
}

Files gguf_model(const HubListing& listing) {
    const auto models = gguf_models(listing);
    if (models.empty()) return {};
    std::vector<std::string> tags = {listing.id.file};
    if (listing.id.file.empty()) {
        if (models.size() == 1) return models.begin()->second;
        tags = {"Q4_K_M", "Q8_0"};  // what others take when nothing is said
    }
    for (const std::string& tag : tags) {
        std::map<std::string, Files> fitting;
        for (const auto& [name, files] : models) {
            if (has_tag(name, tag)) fitting[name] = files;
        }
        if (fitting.size() == 1) return fitting.begin()->second;
        if (fitting.size() > 1)
            throw Error("{}: several files fit, name one of {}", listing.id.text(), choices(fitting));
    }
    throw Error("{}: name one of {}", listing.id.text(), choices(models));
}

}  // namespace

std::string HubId::text() const {
    return repo + (revision == "main" ? "" : "@" + revision) + (file.empty() ? "" : ":" + file);
}

std::optional<HubId> parse_hub_id(std::string_view text) {
    std::string_view rest = text;
    bool is_marked = false;
    for (const std::string_view mark : {"hf:", "https://huggingface.co/", "hf.co/", "huggingface.co/"}) {
        if (!rest.starts_with(mark)) continue;
        rest.remove_prefix(mark.size());
        is_marked = true;
        break;
    }
    HubId id;
    const size_t colon = rest.find(':');
    if (colon != std::string_view::npos) id.file = rest.substr(colon + 1);
    const std::string_view before = rest.substr(0, colon);
    const size_t at = before.find('@');
    if (at != std::string_view::npos) id.revision = before.substr(at + 1);
    id.repo = before.substr(0, at);

    if (!is_marked) {
        const size_t slash = id.repo.find('/');
        const bool one_slash =
            slash != std::string::npos && slash > 0 && id.repo.find('/', slash + 1) == std::string::npos;
        // A repository has no name like a file's.
        const bool is_file = id.file.empty() && (id.repo.ends_with(".gguf") || id.repo.ends_with(".bin") ||
                                                 id.repo.ends_with(".safetensors"));
        const bool is_odd =
            is_file || text.starts_with('.') || text.starts_with('~') || slash + 1 == id.repo.size();
        std::error_code error;
        // A path with a slip of the pen must not become a download.
        if (!one_slash || is_odd || fs::exists(fs::path(text), error) ||
            fs::is_directory(fs::path(id.repo.substr(0, slash)), error)) {
            return std::nullopt;
        }
    }
    check_repo(id.repo);
    check_revision(id.revision);
    if (!id.file.empty()) check_file_name(id.file);
    return id;
}

std::vector<HubFile> choose_files(const HubListing& listing) {
    const HubId& id = listing.id;
    Files files;
    const auto named = std::ranges::find(listing.files, id.file, &HubFile::name);
    if (!id.file.empty() && named != listing.files.end()) {
        files = {*named};
        for (const auto& [name, set] : gguf_models(listing)) {
            if (std::ranges::find(set, id.file, &HubFile::name) != set.end()) files = set;
        }
    } else {
        if (id.file.empty()) files = folder_model(listing);
        if (files.empty()) files = gguf_model(listing);
        if (files.empty()) {
            throw Error("{}: {}", id.text(),
                        id.file.empty()
                            ? "has neither config.json with safetensors or pytorch_model.bin nor a GGUF file"
                            : "has no such file, and no GGUF file of that name");
        }
    }
    for (const HubFile& f : files) check_file_name(f.name);
    return files;
}

}  // namespace smelt
