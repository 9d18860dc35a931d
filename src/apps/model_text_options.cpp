// The sampling table as options; templates and their variables from the command line.
#include "apps/model_text_options.h"

#include <filesystem>

#include "apps/values.h"
#include "base/error.h"
#include "base/mapped_file.h"

namespace smelt {

namespace {

// Of a callback of CLI11, where Error would end up as a failure of the model.
template <class F>
auto as_usage(const char* option, F read) {
    try {
        return read();
    } catch (const Error& e) {
        throw CLI::ValidationError(option, e.what());
    }
}

}  // namespace

std::string text_or_file(const std::string& text) {
    std::error_code none;
    return std::filesystem::is_regular_file(text, none) ? std::string(MappedFile(text).text()) : text;
}

void add_sampling_options(CLI::App& verb, SamplingChanges& to) {
    for (const SamplingParam& p : sampling_table()) {
        if (p.flags.empty()) continue;
        const std::string flags(p.flags), doc(p.doc.substr(0, p.doc.size() - 1));  // without the full stop
        CLI::Option* option = nullptr;
        if (p.integer != nullptr) {
            option = verb.add_option_function<int>(
                flags, [&to, &p](int v) { to.set(p, v); }, doc);
            option->check(in_range(static_cast<int>(p.min), static_cast<int>(p.max)));
        } else {
            option = verb.add_option_function<double>(
                flags, [&to, &p](double v) { to.set(p, v); }, doc);
            option->check(in_range(p.min, p.max));
        }
        // Without one: the model's generation_config.json decides.
        if (!p.fallback.empty()) option->default_str(std::string(p.fallback));
    }
}

std::string read_template_option(const std::string& where, const std::string& text) {
    const std::string source = text_or_file(text);
    if (source.find('{') != std::string::npos) return source;
    throw Error(
        "{}: expected a Jinja template or the file of one, found \"{}\"; names of built-in templates "
        "are not known",
        where, text.substr(0, 80));
}

Json read_kwargs_option(const std::string& where, const std::string& text) {
    const Json value = parse_json(text, where);
    if (!value.is_object()) throw Error("{}: expected a JSON object, found {}", where, text.substr(0, 80));
    return value;
}

void add_template_options(CLI::App& verb, TemplateOptions& o) {
    verb.add_option_function<std::string>(
        "--chat-template",
        [&o](const std::string& text) {
            o.source = as_usage("--chat-template", [&] { return read_template_option("Jinja", text); });
        },
        "Jinja template to use instead of the model's own, as text or a file");
    verb.add_option_function<std::string>(
        "--chat-template-kwargs",
        [&o](const std::string& text) {
            o.kwargs =
                as_usage("--chat-template-kwargs", [&] { return read_kwargs_option("variables", text); });
        },
        "Variables for the template, as a JSON object");
}

}  // namespace smelt
