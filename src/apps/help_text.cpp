// Made of the same table as completions, manual pages and docs/FLAGS.md.
#include "apps/help_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/ascii.h"

namespace smelt {

namespace {

constexpr size_t width = 100, column = 30;

// `text` behind `head`, both indented; words that do not fit go to the next line.
std::string entry(const std::string& head, const std::string& text) {
    std::string out = "  " + head, line;
    if (out.size() + 2 > column) {
        out += "\n" + std::string(column, ' ');
    } else {
        out.resize(column, ' ');
    }
    size_t at = 0;
    while (at < text.size()) {
        const size_t end = std::min(text.find(' ', at), text.size());
        const std::string word = text.substr(at, end - at);
        if (!line.empty() && column + line.size() + 1 + word.size() > width) {
            out += line + "\n" + std::string(column, ' ');
            line.clear();
        }
        line += (line.empty() ? "" : " ") + word;
        at = end + 1;
    }
    return out + line + "\n";
}

std::string option_entry(const OptionRow& o) {
    std::string head;
    for (const std::string& name : o.names)
        head += (head.empty() ? "" : ", ") + (o.is_argument ? ascii_upper(name) : name);
    if (!o.is_argument && !o.value.empty()) head += " " + o.value;
    std::string text = o.doc;
    if (!o.choices.empty()) text += fmt::format(": {}", fmt::join(o.choices, ", "));
    if (!o.environment.empty()) text += fmt::format(" (also ${})", o.environment);
    if (!o.fallback.empty()) text += fmt::format(" [{}]", o.fallback);
    return entry(head, text);
}

// Groups in the order of their first options.
std::string option_groups(const std::vector<OptionRow>& options) {
    std::vector<std::string> groups;
    for (const OptionRow& o : options) {
        if (std::ranges::find(groups, o.group) == groups.end()) groups.push_back(o.group);
    }
    std::string text;
    for (const std::string& group : groups) {
        text += fmt::format("\n{}:\n", group);
        for (const OptionRow& o : options) {
            if (o.group == group) text += option_entry(o);
        }
    }
    return text;
}

std::string verb_groups(const CommandTable& table) {
    std::vector<std::string> groups;
    for (const VerbRow& v : table.verbs) {
        if (std::ranges::find(groups, v.group) == groups.end()) groups.push_back(v.group);
    }
    std::string text;
    for (const std::string& group : groups) {
        text += fmt::format("\n{}:\n", group);
        for (const VerbRow& v : table.verbs) {
            if (v.group == group) text += entry(fmt::format("{}", fmt::join(v.names, ", ")), v.doc);
        }
    }
    return text;
}

}  // namespace

std::string synopsis(const VerbRow& verb) {
    std::string text = fmt::format("smelt {} [OPTION]...", verb.names[0]);
    for (const OptionRow& o : verb.options) {
        if (!o.is_argument && !(o.takes_model() && o.names.back() == "--model")) continue;
        const std::string name =
            ascii_upper(o.is_argument ? o.names[0] : "model") + (o.is_repeated ? "..." : "");
        text += o.is_required ? " " + name : " [" + name + "]";
    }
    return text;
}

std::string HelpText::make_help(const CLI::App* app, std::string, CLI::AppFormatMode) const {
    const CLI::App* parent = app->get_parent();
    const CommandTable table = command_table(parent == nullptr ? *app : *parent);
    if (parent == nullptr) {
        return fmt::format("{}\n\nUsage: smelt VERB [OPTION]...\n{}{}\n{}\n", table.doc, verb_groups(table),
                           option_groups(table.common), app->get_footer());
    }
    const auto verb =
        std::ranges::find(table.verbs, app->get_name(), [](const VerbRow& v) { return v.names[0]; });
    std::string text =
        fmt::format("{}\n\nUsage: {}\n{}", verb->doc, synopsis(*verb), option_groups(verb->options));
    text += "\nFor every verb:\n";
    for (const OptionRow& o : table.common) {
        if (o.names.back() != "--help" && o.names.back() != "--version") text += option_entry(o);
    }
    return text + (verb->footer.empty() ? "" : "\n" + verb->footer + "\n");
}

}  // namespace smelt
