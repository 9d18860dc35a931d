// Sentences for each kind of CLI11's errors.
#include "apps/usage.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "base/ascii.h"
#include "base/edit_distance.h"

namespace smelt {

namespace {

// "--model is required", "in is required"
std::string missing_text(const std::string& what, const std::string& verb) {
    const std::string name = what.substr(0, what.find(' '));
    if (verb.empty()) return "expected a verb, such as run or serve; smelt help lists them";
    const bool is_argument = !name.starts_with('-') || name == "--model";
    return fmt::format("{}: {} is missing; smelt {} --help shows what it takes", verb,
                       is_argument ? ascii_upper(name.substr(name.find_first_not_of('-'))) : name, verb);
}

std::string mismatch_text(const std::string& what) {
    const std::string name = what.substr(0, what.find(':'));
    const bool too_many = what.find("ost ") != std::string::npos;  // "At most", "At Most"
    if (too_many) return name + ": given more than once";
    return what.ends_with("a value is missing") ? what : name + ": a value is missing";
}

// "Could not convert: --seed = warm", "The value warm is not an allowed value for --seed"
std::string conversion_text(const std::string& what) {
    const size_t name = what.find("--"), equals = what.find(" = ");
    if (name == std::string::npos || equals == std::string::npos || equals < name) return what;
    return fmt::format("{}: expected a number, found \"{}\"", what.substr(name, equals - name),
                       what.substr(equals + 3));
}

std::string extra_text(const std::string& what, const std::string& verb) {
    const size_t colon = what.find(": ");
    const std::string words = colon == std::string::npos ? what : what.substr(colon + 2);
    return fmt::format(
        "smelt{}{} does not take \"{}\"; put quotes around a text of several words, and see smelt help{}{}",
        verb.empty() ? "" : " ", verb, words, verb.empty() ? "" : " ", verb);
}

// "--a excludes --b"
std::string pair_text(const std::string& what, const std::string& word, const char* form) {
    const size_t at = what.find(word);
    if (at == std::string::npos) return what;
    const auto name = [](const std::string& text) {
        return text.starts_with('-') ? text : ascii_upper(text);
    };
    return fmt::format(fmt::runtime(form), name(what.substr(0, at)), name(what.substr(at + word.size())));
}

std::vector<std::string> verb_names(const CLI::App& smelt) {
    std::vector<std::string> names;
    for (const CLI::App* verb : smelt.get_subcommands([](const CLI::App*) { return true; })) {
        names.push_back(verb->get_name());
        for (const std::string& alias : verb->get_aliases()) names.push_back(alias);
    }
    return names;
}

void add_option_names(const CLI::App& app, std::vector<std::string>& names) {
    for (const CLI::Option* o : app.get_options([](const CLI::Option*) { return true; })) {
        for (const std::string& name : o->get_lnames()) names.push_back("--" + name);
        for (const std::string& name : o->get_snames()) names.push_back("-" + name);
    }
}

std::string did_you_mean(const std::string& near) {
    return near.empty() ? "" : fmt::format("; did you mean {}?", near);
}

}  // namespace

std::string usage_text(const CLI::ParseError& error, const std::string& verb) {
    const std::string kind = error.get_name(), what = error.what();
    if (kind == "RequiredError") return missing_text(what, verb);
    if (kind == "ArgumentMismatch") return mismatch_text(what);
    if (kind == "ConversionError") return conversion_text(what);
    // Its name is that of the verb in some versions of CLI11.
    if (dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr) return extra_text(what, verb);
    if (kind == "ExcludesError") return pair_text(what, " excludes ", "{} and {} cannot go together");
    if (kind == "RequiresError") return pair_text(what, " requires ", "{} needs {}");
    return what;
}

void refuse_verb(const CLI::App& smelt, const std::string& word) {
    std::error_code none;
    if (std::filesystem::exists(word, none))
        throw CLI::ValidationError(word, fmt::format("expected a verb, found a path; smelt run {}", word));
    const std::string near = nearest_word(word, verb_names(smelt));
    throw CLI::ValidationError(
        word, near.empty() ? "smelt has no such verb; smelt help lists them"
                           : fmt::format("smelt has no such verb; did you mean smelt {}?", near));
}

void refuse_option(const CLI::App& smelt, const CLI::App* verb, const std::string& word,
                   std::vector<std::string> more_names) {
    std::vector<std::string> names = std::move(more_names);
    if (verb != nullptr) add_option_names(*verb, names);
    add_option_names(smelt, names);
    const std::string of = verb == nullptr ? "smelt" : fmt::format("smelt {}", verb->get_name());
    const std::string near = nearest_word(word, names);
    throw CLI::ValidationError(
        word, fmt::format("{} has no such option{}", of,
                          near.empty() ? fmt::format("; {} --help lists them", of) : did_you_mean(near)));
}

}  // namespace smelt
