// From CLI11 to rows.
#include "apps/option_table.h"

#include <algorithm>

namespace smelt {

namespace {

std::vector<std::string> split(const std::string& text, char at) {
    std::vector<std::string> parts;
    size_t start = 0;
    while (start <= text.size()) {
        const size_t end = std::min(text.find(at, start), text.size());
        if (end > start) parts.push_back(text.substr(start, end - start));
        start = end + 1;
    }
    return parts;
}

OptionRow make_row(const CLI::Option& o) {
    OptionRow row;
    for (const std::string& name : o.get_snames()) row.names.push_back("-" + name);
    for (const std::string& name : o.get_lnames()) row.names.push_back("--" + name);
    row.is_argument = row.names.empty();
    if (row.is_argument) row.names = {o.get_name(true)};
    row.doc = o.get_description();
    row.environment = o.get_envname();
    row.group = o.get_group();
    row.is_required = o.get_required();
    row.is_repeated = o.get_expected_max() > 1;
    if (o.get_items_expected_max() == 0) return row;
    // "INT", "FLOAT", "TEXT:{bash,zsh}"
    const std::string type = o.get_type_name();
    row.value = type.substr(0, type.find(':'));
    if (row.value.empty() || row.value.find('{') == 0) row.value = "TEXT";
    const bool is_number = row.value == "INT" || row.value == "UINT" || row.value == "FLOAT";
    if (is_number) row.value = "NUMBER";
    const size_t open = type.find('{'), close = type.find('}');
    if (open < close && close != std::string::npos)
        row.choices = split(type.substr(open + 1, close - open - 1), ',');
    const std::string fallback = o.get_default_str();
    const bool says_something =
        !fallback.empty() && fallback != "[]" && fallback != "\"\"" && fallback != "{}";
    const bool is_list = fallback.starts_with('[') && fallback.ends_with(']');
    if (says_something) row.fallback = is_list ? fallback.substr(1, fallback.size() - 2) : fallback;
    return row;
}

std::vector<OptionRow> rows_of(const CLI::App& app) {
    std::vector<OptionRow> rows;
    for (const CLI::Option* o :
         app.get_options([](const CLI::Option* option) { return !option->get_group().empty(); })) {
        rows.push_back(make_row(*o));
    }
    // Arguments first, the model before the others, then as the verb has them; --help last.
    std::ranges::stable_sort(rows, {}, [](const OptionRow& r) {
        const bool is_model = r.takes_model() && r.names.back() != "--serve";
        return is_model ? 0 : r.is_argument ? 1 : r.names.back() == "--help" ? 3 : 2;
    });
    return rows;
}

}  // namespace

bool OptionRow::takes_model() const {
    const std::string& name = names.back();
    return name == "model" || name == "models" || name == "--model" || name == "in" || name == "--serve";
}

bool OptionRow::takes_file() const {
    const std::string& name = names.back();
    return value == "FILE" || name == "--file" || name == "--output" || name == "--template-file" ||
           name == "out";
}

CommandTable command_table(const CLI::App& smelt) {
    CommandTable table{.doc = smelt.get_description(), .common = rows_of(smelt)};
    for (const CLI::App* app : smelt.get_subcommands([](const CLI::App*) { return true; })) {
        VerbRow verb{.names = {app->get_name()},
                     .doc = app->get_description(),
                     .footer = app->get_footer(),
                     .group = app->get_group(),
                     .options = rows_of(*app)};
        for (const std::string& alias : app->get_aliases()) verb.names.push_back(alias);
        table.verbs.push_back(std::move(verb));
    }
    return table;
}

}  // namespace smelt
