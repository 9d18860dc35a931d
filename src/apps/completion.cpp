// smelt completion: a script for a shell.
#include <fmt/format.h>

#include "apps/option_table.h"
#include "apps/verbs.h"

namespace smelt {

Verb add_completion(CLI::App& smelt) {
    auto shell = std::make_shared<std::string>();
    CLI::App* verb = smelt.add_subcommand("completion", "Print the completion script of a shell");
    verb->add_option("shell", *shell, "Which")->required()->check(CLI::IsMember({"bash", "zsh", "fish"}));
    verb->footer(
        "Examples:\n  source <(smelt completion bash)\n  smelt completion zsh > ~/.zfunc/_smelt\n"
        "  smelt completion fish > ~/.config/fish/completions/smelt.fish");
    return {verb, [shell, &smelt] { fmt::print("{}", completion_script(command_table(smelt), *shell)); }};
}

}  // namespace smelt
