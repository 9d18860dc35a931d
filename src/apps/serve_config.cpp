// The keys of [server] are the long options of the command line, so there is no second list of them.
#include "apps/serve_config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <sstream>

#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include "base/error.h"
#include "base/mapped_file.h"

namespace smelt {

namespace {

// What a value of the file is to become, with the words for a message.
class Value {
 public:
    Value(std::string where, std::string key, const toml::node& node, std::filesystem::path folder)
        : where_(std::move(where)), key_(std::move(key)), node_(node), folder_(std::move(folder)) {}

    std::string text() const {
        if (const auto v = node_.value_exact<std::string>()) return *v;
        fail("a string");
    }
    std::string file() const {
        const std::string name = text();
        return name.empty() ? name : (folder_ / name).string();  // an absolute one stays what it is
    }
    std::string named_file() const {
        if (text().empty()) fail("a file");
        return file();
    }
    int64_t integer(int64_t min, int64_t max) const {
        const auto v = node_.value_exact<int64_t>();
        if (v && *v >= min && *v <= max) return *v;
        fail(fmt::format("an integer, {} to {}", min, max));
    }
    std::string one_of(std::initializer_list<std::string_view> words) const {
        const auto v = node_.value_exact<std::string>();
        if (v && std::ranges::find(words, *v) != words.end()) return *v;
        fail(fmt::format("one of {}", fmt::join(words.begin(), words.end(), ", ")));
    }
    std::vector<std::string> texts() const {
        std::vector<std::string> all;
        if (!node_.is_array()) fail("an array of strings");
        for (const toml::node& item : *node_.as_array()) {
            const auto v = item.value_exact<std::string>();
            if (!v || v->empty()) fail("an array of strings");
            all.push_back(*v);
        }
        return all;
    }
    // NAME=PATH or PATH each.
    std::vector<std::string> named_paths() const {
        std::vector<std::string> all = texts();
        for (std::string& text : all) {
            const size_t path = text.find('=') + 1;  // 0: there is no name
            text = text.substr(0, path) + (folder_ / text.substr(path)).string();
        }
        return all;
    }
    double number(double min, double max) const {
        const auto v = node_.is_number() ? node_.value<double>() : std::nullopt;
        if (v && *v >= min && *v <= max) return *v;
        fail(fmt::format("a number, {} to {}", min, max));
    }
    // The text of a file, or JSON.
    std::string where() const { return fmt::format("{}: {}", where_, key_); }
    // As the command line would have it.
    std::string plain() const {
        if (const auto v = node_.value_exact<std::string>()) return *v;
        if (const auto v = node_.value_exact<int64_t>()) return std::to_string(*v);
        if (const auto v = node_.value_exact<double>()) return fmt::format("{}", *v);
        if (const auto v = node_.value_exact<bool>()) return *v ? "true" : "false";
        fail("a string, a number or a boolean");
    }
    const toml::node& node() const { return node_; }

 private:
    [[noreturn]] void fail(const std::string& expected) const {
        std::ostringstream found;
        node_.visit([&](const auto& n) { found << n; });
        throw Error("{}: {}: expected {}, found {}", where_, key_, expected, found.str().substr(0, 60));
    }

    std::string where_, key_;
    const toml::node& node_;
    std::filesystem::path folder_;
};

struct ModelKey {
    std::string_view name;
    void (*read)(const Value& v, ConfigModel& m);
};

constexpr int max_int = std::numeric_limits<int>::max();

const ModelKey model_keys[] = {
    {"name", [](const Value& v, ConfigModel& m) { m.name = v.text(); }},
    {"path",
     [](const Value& v, ConfigModel& m) { m.path = v.text().starts_with("hf:") ? v.text() : v.file(); }},
    {"context", [](const Value& v, ConfigModel& m) { m.context = static_cast<int>(v.integer(0, 1 << 30)); }},
    {"kv-tokens", [](const Value& v, ConfigModel& m) { m.kv_tokens = v.integer(0, 1 << 30); }},
    {"max-seqs", [](const Value& v, ConfigModel& m) { m.max_seqs = static_cast<int>(v.integer(1, 1024)); }},
    {"device", [](const Value& v, ConfigModel& m) { m.device = v.text(); }},
    {"draft-model",
     [](const Value& v, ConfigModel& m) {
         m.draft_model = v.text().empty() || v.text().starts_with("hf:") ? v.text() : v.file();
     }},
    {"threads", [](const Value& v, ConfigModel& m) { m.threads = static_cast<int>(v.integer(0, 1024)); }},
    {"role",
     [](const Value& v, ConfigModel& m) {
         m.role = v.one_of({"fast", "best"});
     }},
    {"replicas", [](const Value& v, ConfigModel& m) { m.replicas = static_cast<int>(v.integer(1, 64)); }},
    {"idle-unload",
     [](const Value& v, ConfigModel& m) { m.idle_unload = static_cast<int>(v.integer(0, max_int)); }},
    {"aliases", [](const Value& v, ConfigModel& m) { m.aliases = v.texts(); }},
    {"lora", [](const Value& v, ConfigModel& m) { m.lora = v.named_paths(); }},
    {"system", [](const Value& v, ConfigModel& m) { m.system = v.text(); }},
    {"pooling",
     [](const Value& v, ConfigModel& m) {
         m.pooling = v.one_of({"mean", "last"});
     }},
    {"chat-template",
     [](const Value& v, ConfigModel& m) {
         const bool is_text = v.text().find('{') != std::string::npos;
         m.chat.source = read_template_option(v.where(), is_text ? v.text() : v.file());
     }},
    {"chat-template-kwargs",
     [](const Value& v, ConfigModel& m) { m.chat.kwargs = read_kwargs_option(v.where(), v.text()); }},
    // Without a file anybody may use the model, so an empty name is a mistake.
    {"api-key-file", [](const Value& v, ConfigModel& m) { m.api_key_file = v.named_file(); }},
};

class ConfigFile {
 public:
    explicit ConfigFile(const std::filesystem::path& path) : path_(path) {
        const MappedFile file(path);
        try {
            root_ = toml::parse(file.text(), path.string());
        } catch (const toml::parse_error& e) {
            throw Error("{}:{}: {}", path.string(), e.source().begin.line, e.description());
        }
    }

    std::vector<ConfigModel> apply(CLI::App& verb) const {
        for (const auto& [key, node] : root_) {
            const bool known = key == "server" || key == "model";
            if (!known) unknown(key, "server, model");
        }
        if (const toml::node* server = root_.get("server")) {
            if (!server->is_table()) throw Error("{}: expected [server]", at(*server));
            apply_server(*server->as_table(), verb);
        }
        std::vector<ConfigModel> models;
        if (const toml::node* list = root_.get("model")) {
            if (!list->is_array_of_tables()) throw Error("{}: expected [[model]]", at(*list));
            for (const toml::node& table : *list->as_array()) models.push_back(read_model(*table.as_table()));
        }
        return models;
    }

 private:
    std::string at(const toml::node& node) const {
        return fmt::format("{}:{}", path_.string(), node.source().begin.line);
    }
    [[noreturn]] void unknown(const toml::key& key, const std::string& known) const {
        throw Error("{}:{}: unknown key {}; known are {}", path_.string(), key.source().begin.line,
                    std::string(key.str()), known);
    }
    Value value(const toml::key& key, const toml::node& node) const {
        return {at(node), std::string(key.str()), node, path_.parent_path()};
    }

    ConfigModel read_model(const toml::table& table) const {
        ConfigModel m;
        for (const auto& [key, node] : table) {
            const auto known = std::ranges::find(model_keys, key.str(), &ModelKey::name);
            const SamplingParam* sampling = find_sampling_param(key.str());
            if (known == std::end(model_keys) && sampling != nullptr) {
                m.sampling.set(*sampling, value(key, node).number(sampling->min, sampling->max));
                continue;
            }
            if (known == std::end(model_keys)) {
                std::string names;
                for (const ModelKey& k : model_keys)
                    names += (names.empty() ? "" : ", ") + std::string(k.name);
                unknown(key, names + ", and the options of sampling");
            }
            known->read(value(key, node), m);
        }
        if (m.path.empty()) throw Error("{}: a model needs a path", at(table));
        return m;
    }

    void apply_server(const toml::table& table, CLI::App& verb) const {
        const auto is_key = [](const CLI::Option* o) {
            return !o->get_lnames().empty() && o->get_lnames()[0] != "help" && o->get_lnames()[0] != "config";
        };
        const auto options = verb.get_options(is_key);
        for (const auto& [key, node] : table) {
            const auto option = std::ranges::find_if(
                options, [&](const CLI::Option* o) { return o->get_lnames()[0] == key.str(); });
            if (option == options.end()) {
                std::string names;
                for (const CLI::Option* o : options)
                    names += (names.empty() ? "" : ", ") + o->get_lnames()[0];
                unknown(key, names);
            }
            if ((*option)->count() == 0) set(**option, key, node);
        }
    }

    void set(CLI::Option& option, const toml::key& key, const toml::node& node) const {
        const auto add = [&](const Value& v) {
            option.add_result(option.get_type_name() == "FILE" ? v.file() : v.plain());
        };
        if (const toml::array* list = node.as_array()) {
            for (const toml::node& item : *list) add(value(key, item));
        } else {
            add(value(key, node));
        }
        try {
            option.run_callback();
        } catch (const CLI::ParseError& e) {
            throw Error("{}: {}", at(node), e.what());
        }
    }

    std::filesystem::path path_;
    toml::table root_;
};

}  // namespace

std::vector<ConfigModel> read_serve_config(const std::filesystem::path& path, CLI::App& verb) {
    return ConfigFile(path).apply(verb);
}

}  // namespace smelt
