// The environment of Hugging Face's tools, and a bar while they would show one.
#include "apps/hub_model.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "apps/progress.h"
#include "base/edit_distance.h"
#include "base/error.h"
#include "base/log.h"
#include "base/units.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

// The first that is set and not empty.
std::string environment(std::initializer_list<const char*> names) {
    for (const char* name : names) {
        const char* value = std::getenv(name);
        if (value != nullptr && *value != '\0') return value;
    }
    return "";
}

fs::path hub_home() {
    const std::string home = environment({"HF_HOME"});
    if (!home.empty()) return home;
    const std::string cache = environment({"XDG_CACHE_HOME"});
    if (!cache.empty()) return fs::path(cache) / "huggingface";
    return fs::path(environment({"HOME"})) / ".cache" / "huggingface";
}

std::string read_token() {
    std::string token = environment({"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"});
    if (token.empty()) {
        const std::string path = environment({"HF_TOKEN_PATH"});
        std::ifstream in(path.empty() ? hub_home() / "token" : fs::path(path));
        std::getline(in, token);
    }
    const auto is_space = [](char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; };
    while (!token.empty() && is_space(token.back())) token.pop_back();
    // It becomes a line of a request.
    const bool printable = std::ranges::all_of(token, [](char c) { return c > ' ' && c <= '~'; });
    if (!printable) throw Error("HF_TOKEN: expected letters, digits and signs, found other characters");
    return token;
}

// Names what is near, as a person does who looks over one's shoulder.
void check_exists(const fs::path& path) {
    std::error_code error;
    if (fs::exists(path, error)) return;
    const fs::path folder = path.has_parent_path() ? path.parent_path() : fs::path(".");
    std::vector<std::string> names;
    for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
        names.push_back(it->path().filename().string());
    }
    if (error && !fs::exists(folder, error))
        throw Error("{}: there is no folder {}", path.string(), folder.string());
    const std::string near = nearest_word(path.filename().string(), names);
    const fs::path meant = path.has_parent_path() ? folder / near : fs::path(near);
    throw Error("{}: no such file or folder{}", path.string(),
                near.empty() ? "" : fmt::format("; did you mean {}?", meant.string()));
}

}  // namespace

CLI::Option* add_model_argument(CLI::App& verb, std::string& model) {
    return verb.add_option(
        "-m,--model,model", model,
        "Model folder, .gguf, .bin, or an id of the Hugging Face hub: ORG/NAME[@REVISION][:FILE]");
}

HubOptions hub_options() {
    HubOptions o;
    const std::string endpoint = environment({"HF_ENDPOINT"}),
                      cache = environment({"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"});
    if (!endpoint.empty()) o.endpoint = endpoint;
    while (o.endpoint.ends_with('/')) o.endpoint.pop_back();
    o.cache = cache.empty() ? hub_home() / "hub" : fs::path(cache);
    o.token = read_token();
    o.ca_bundle = environment({"SSL_CERT_FILE", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE"});
    const std::string offline = environment({"HF_HUB_OFFLINE"});
    o.offline = !offline.empty() && offline != "0" && offline != "false";
    return o;
}

fs::path pull_with_progress(HubOptions options, const HubId& id) {
    const PullPlan plan = plan_pull(options, id);
    if (plan.n_missing > 0) {
        const std::string already = plan.n_missing < plan.n_bytes
                                        ? fmt::format(", {} of it are missing", bytes_text(plan.n_missing))
                                        : "";
        spdlog::info("pulling {}: {} in {} files{}, into {}", id.text(), bytes_text(plan.n_bytes),
                     plan.files.size(), already, options.cache.string());
    }
    std::optional<ProgressBar> bar;
    std::string doing;
    options.progress = [&](const HubProgress& p) {
        if (!bar || doing != p.doing) bar.emplace(doing = p.doing);
        bar->show(p.done, p.total);
    };
    options.say = [](const std::string& text) { spdlog::info("{}", text); };
    return pull(options, plan);
}

std::string local_model(const std::string& model) {
    const auto id = parse_hub_id(model);
    if (!id) {
        check_exists(model);
        return model;
    }
    const HubOptions options = hub_options();
    if (const auto here = find_cached(options, *id)) return here->string();
    try {
        return pull_with_progress(options, *id).string();
    } catch (const Error& e) {
        const bool is_plain = model == id->text();  // it might have been meant as a path
        if (!is_plain) throw;
        throw Error("{}: no such file or folder here, and from the hub: {}", model, e.what());
    }
}

}  // namespace smelt
