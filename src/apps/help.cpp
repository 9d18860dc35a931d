// smelt help: the same texts as --help, by the word that many try first.
#include <fmt/format.h>

#include "apps/help_text.h"
#include "apps/usage.h"
#include "apps/verbs.h"

namespace smelt {

Verb add_help(CLI::App& smelt) {
    auto word = std::make_shared<std::string>();
    CLI::App* verb = smelt.add_subcommand("help", "Explain smelt, or one of its verbs");
    verb->add_option("verb", *word, "The verb to explain");
    verb->footer("Examples:\n  smelt help\n  smelt help run");
    return {verb, [word, &smelt] {
                // Not App::help(), which explains the verb of the line.
                const auto text = [](const CLI::App& app) {
                    return HelpText().make_help(&app, "", CLI::AppFormatMode::Normal);
                };
                if (word->empty()) return fmt::print("{}", text(smelt));
                const auto verbs =
                    smelt.get_subcommands([&](const CLI::App* v) { return v->check_name(*word); });
                if (verbs.empty()) refuse_verb(smelt, *word);
                fmt::print("{}", text(*verbs.front()));
            }};
}

}  // namespace smelt
