// Completion for bash, zsh and fish. Verbs, options, choices and files are in the script; pulled models are
// asked for.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apps/option_table.h"
#include "base/error.h"

namespace smelt {

namespace {

std::string first_sentence(const std::string& doc) {
    return doc.substr(0, doc.find_first_of(";\n"));
}

std::string all_names(const std::vector<OptionRow>& options) {
    std::string words;
    for (const OptionRow& o : options) {
        if (!o.is_argument) words += fmt::format("{}{}", words.empty() ? "" : " ", fmt::join(o.names, " "));
    }
    return words;
}

std::string bash_values(const OptionRow& o) {
    if (!o.choices.empty())
        return fmt::format("COMPREPLY=($(compgen -W '{}' -- \"$cur\"))", fmt::join(o.choices, " "));
    if (o.takes_model()) return "_smelt_models";
    return o.takes_file() ? "compopt -o default" : ":";
}

std::string bash_verb(const VerbRow& verb) {
    std::string values, argument = ":";
    for (const OptionRow& o : verb.options) {
        if ((o.is_argument || o.takes_model()) && argument == ":") argument = bash_values(o);
        if (!o.is_argument && !o.value.empty()) {
            values += fmt::format("        {}) {}; return ;;\n", fmt::join(o.names, "|"), bash_values(o));
        }
    }
    return fmt::format(
        "    {})\n        case $prev in\n{}        esac\n"
        "        if [[ $cur == -* ]]; then COMPREPLY=($(compgen -W '{} '\"$common\" -- \"$cur\")); else {}; "
        "fi ;;\n",
        fmt::join(verb.names, "|"), values, all_names(verb.options), argument);
}

std::string bash_script(const CommandTable& table) {
    std::string names, patterns, cases;
    for (const VerbRow& verb : table.verbs) {
        names += fmt::format(" {}", fmt::join(verb.names, " "));
        patterns += fmt::format("{}{}", patterns.empty() ? "" : "|", fmt::join(verb.names, "|"));
        cases += bash_verb(verb);
    }
    return fmt::format(
        "# bash completion for smelt, made by: smelt completion bash\n"
        "_smelt_models() {{\n"
        "    compopt -o default\n"
        "    COMPREPLY=($(compgen -f -- \"$cur\") $(compgen -W \"$(smelt list --names 2>/dev/null)\" -- "
        "\"$cur\"))\n"
        "    compopt -o filenames\n"
        "}}\n"
        "_smelt() {{\n"
        "    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD - 1]}} verb= i common='{}'\n"
        "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
        "        case ${{COMP_WORDS[i]}} in {}) verb=${{COMP_WORDS[i]}}; break ;; esac\n"
        "    done\n"
        "    COMPREPLY=()\n"
        "    case $verb in\n"
        "    '') COMPREPLY=($(compgen -W '{} '\"$common\" -- \"$cur\")) ;;\n"
        "{}"
        "    esac\n"
        "}}\n"
        "complete -F _smelt smelt\n",
        all_names(table.common), patterns, names.substr(1), cases);
}

// Inside '...', and in zsh's own lists, where [ ] : have meanings.
std::string zsh_text(const std::string& doc) {
    std::string text;
    for (const char c : first_sentence(doc)) {
        if (c == '\'') {
            text += "'\\''";
        } else {
            if (c == '[' || c == ']' || c == ':' || c == '\\') text += '\\';
            text += c;
        }
    }
    return text;
}

std::string zsh_values(const OptionRow& o) {
    if (!o.choices.empty()) return fmt::format("({})", fmt::join(o.choices, " "));
    if (o.takes_model()) return "_smelt_models";
    return o.takes_file() ? "_files" : " ";
}

std::string zsh_option(const OptionRow& o) {
    const std::string value = o.value.empty() ? "" : fmt::format(":{}:{}", o.value, zsh_values(o));
    if (o.is_argument)
        return fmt::format("'{}:{}:{}'", o.is_repeated ? "*" : "", zsh_text(o.names[0]), zsh_values(o));
    const std::string text = fmt::format("[{}]{}", zsh_text(o.doc), value);
    const std::string others = o.is_repeated ? "*" : fmt::format("({})", fmt::join(o.names, " "));
    if (o.names.size() == 1) return fmt::format("'{}{}{}'", others, o.names[0], text);
    return fmt::format("'{}'{{{}}}'{}'", others, fmt::join(o.names, ","), text);
}

std::string zsh_script(const CommandTable& table) {
    std::string verbs, cases, common;
    for (const OptionRow& o : table.common) common += fmt::format("        {} \\\n", zsh_option(o));
    for (const VerbRow& verb : table.verbs) {
        for (const std::string& name : verb.names)
            verbs += fmt::format("        '{}:{}'\n", name, zsh_text(verb.doc));
        std::string options;
        for (const OptionRow& o : verb.options) {
            // MODEL may stand behind -m or alone.
            if (o.takes_model() && !o.is_argument)
                options += fmt::format("                '1:model:{}' \\\n", zsh_values(o));
            options += fmt::format("                {} \\\n", zsh_option(o));
        }
        cases += fmt::format("            ({})\n                _arguments -s \\\n{}{}                ;;\n",
                             fmt::join(verb.names, "|"), options, "                $common\n");
    }
    return fmt::format(
        "#compdef smelt\n# zsh completion for smelt, made by: smelt completion zsh\n"
        "_smelt_models() {{\n    local -a pulled=(${{(f)\"$(smelt list --names 2>/dev/null)\"}})\n"
        "    _alternative 'files:path:_files' \"models:pulled model:compadd -a pulled\"\n}}\n"
        "_smelt() {{\n    local context state state_descr line\n    typeset -A opt_args\n    local -a "
        "verbs=(\n{}    )\n"
        "    local -a common=(\n{}    )\n"
        "    _arguments -C $common '1:verb:->verb' '*::argument:->arguments'\n"
        "    case $state in\n        (verb) _describe -t verbs verb verbs ;;\n        (arguments)\n"
        "            case $words[1] in\n{}            esac ;;\n    esac\n}}\n"
        "if [[ $funcstack[1] == _smelt ]]; then _smelt \"$@\"; else compdef _smelt smelt; fi\n",
        verbs,
        [&] {
            std::string plain = common;
            for (size_t at = 0; (at = plain.find(" \\\n", at)) != std::string::npos;) plain.erase(at, 2);
            return plain;
        }(),
        cases);
}

std::string fish_text(const std::string& doc) {
    std::string text;
    for (const char c : first_sentence(doc))
        text += c == '\'' || c == '\\' ? fmt::format("\\{}", c) : std::string(1, c);
    return text;
}

constexpr const char* fish_models = " -F -a '(smelt list --names 2>/dev/null)'";

// What may stand where a value is expected.
std::string fish_values(const OptionRow& o) {
    if (!o.choices.empty()) return fmt::format(" -a '{}'", fmt::join(o.choices, " "));
    if (o.takes_model()) return fish_models;
    return o.takes_file() ? " -F" : "";
}

std::string fish_option(const OptionRow& o, const std::string& condition) {
    const std::string values = fish_values(o), line = "complete -c smelt" + condition;
    if (o.is_argument) return values.empty() ? "" : line + values + "\n";
    std::string names;
    for (const std::string& name : o.names) {
        names += name.starts_with("--") ? fmt::format(" -l {}", name.substr(2))
                                        : fmt::format(" -s {}", name.substr(1));
    }
    const char* kind = o.value.empty() ? "" : o.takes_model() || o.takes_file() ? " -r" : " -x";
    return fmt::format("{}{}{}{} -d '{}'\n", line, names, kind, values, fish_text(o.doc));
}

std::string fish_script(const CommandTable& table) {
    std::string text = "# fish completion for smelt, made by: smelt completion fish\ncomplete -c smelt -f\n";
    for (const OptionRow& o : table.common) text += fish_option(o, "");
    for (const VerbRow& verb : table.verbs) {
        for (const std::string& name : verb.names) {
            text += fmt::format("complete -c smelt -n __fish_use_subcommand -a {} -d '{}'\n", name,
                                fish_text(verb.doc));
        }
        const std::string condition =
            fmt::format(" -n '__fish_seen_subcommand_from {}'", fmt::join(verb.names, " "));
        for (const OptionRow& o : verb.options) {
            text += fish_option(o, condition);
            if (!o.takes_model() || o.is_argument) continue;
            text += fmt::format("complete -c smelt{}{}\n", condition, fish_models);
        }
    }
    return text;
}

}  // namespace

std::string completion_script(const CommandTable& table, const std::string& shell) {
    if (shell == "bash") return bash_script(table);
    if (shell == "zsh") return zsh_script(table);
    CHECK(shell == "fish", "{}", shell);
    return fish_script(table);
}

}  // namespace smelt
