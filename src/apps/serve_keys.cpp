// Keys from the command line, from the environment and from files: an empty one is refused wherever it is.
#include "apps/serve_keys.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <utility>

#include "base/error.h"
#include "base/mapped_file.h"

namespace smelt {

namespace {

void check_keys(const std::string& source, const std::vector<std::string>& keys) {
    for (const std::string& key : keys) {
        if (const std::string problem = key_problem(key); !problem.empty()) {
            throw Error("{}: {}", source, problem);
        }
    }
}

}  // namespace

void read_keys(const std::string& path, std::vector<std::string>& keys) {
    if (path.empty()) return;
    const MappedFile file(path);
    std::string line;
    for (const char c : std::string(file.text()) + "\n") {
        if (std::isspace(static_cast<unsigned char>(c)) == 0) {
            line += c;
        } else if (!line.empty()) {
            keys.push_back(std::exchange(line, {}));
        }
    }
    if (keys.empty()) throw Error("{}: expected a key a line, found none", path);
    check_keys(path, keys);
}

namespace {

// "--api-key= --host ..." with an unset variable takes the next option for the key.
void check_no_option(const std::vector<std::string>& keys) {
    for (const std::string& key : keys) {
        if (key.starts_with("--")) throw Error("--api-key: expected a key, found what looks like an option");
    }
}

// A variable that is set and empty is a mistake of a script, not a wish for a server without a key.
void check_key_variable(const CLI::App& verb) {
    const char* value = std::getenv("SMELT_API_KEY");
    if (value == nullptr || *value != '\0' || verb.get_option("--api-key")->count() > 0) return;
    throw Error("SMELT_API_KEY: expected a key, found an empty text");
}

}  // namespace

void check_given_keys(const CLI::App& verb, const std::vector<std::string>& keys) {
    check_key_variable(verb);
    check_keys("--api-key", keys);
    check_no_option(keys);
}

// Whoever may ask a question would be an admin.
void check_admin_keys(const AccessOptions& access) {
    for (const std::string& key : access.admin_keys) {
        if (std::ranges::find(access.api_keys, key) != access.api_keys.end()) {
            throw Error("--admin-key-file: expected keys of its own, found one that is an API key too");
        }
    }
}

}  // namespace smelt
