// Manual pages in roff, and docs/FLAGS.md.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "apps/help_text.h"
#include "apps/option_table.h"
#include "apps/peer_flags.h"
#include "apps/version.h"
#include "base/ascii.h"

namespace smelt {

namespace {

// A dot or an apostrophe that begins a line would be a command, a backslash an escape, a plain - a hyphen.
std::string roff(const std::string& text) {
    std::string out;
    for (const char c : text) {
        const bool begins_line = out.empty() || out.back() == '\n';
        if (begins_line && (c == '.' || c == '\'')) out += "\\&";
        if (c == '\\') {
            out += "\\e";
        } else if (c == '-') {
            out += "\\-";
        } else {
            out += c;
        }
    }
    return out;
}

std::string details(const OptionRow& o) {
    std::string text;
    if (!o.choices.empty()) text += fmt::format(" One of {}.", fmt::join(o.choices, ", "));
    if (!o.fallback.empty()) text += fmt::format(" Default: {}.", o.fallback);
    if (!o.environment.empty()) text += fmt::format(" Environment: {}.", o.environment);
    return text;
}

std::string with_stop(const std::string& doc) {
    return doc.ends_with('.') || doc.ends_with(')') ? doc : doc + ".";
}

std::string roff_options(const std::vector<OptionRow>& options) {
    std::string text;
    for (const OptionRow& o : options) {
        std::string names;
        for (const std::string& name : o.names) {
            names += fmt::format("{}\\fB{}\\fR", names.empty() ? "" : ", ",
                                 roff(o.is_argument ? ascii_upper(name) : name));
        }
        if (!o.value.empty() && !o.is_argument) names += fmt::format(" \\fI{}\\fR", roff(o.value));
        text += fmt::format(".TP\n{}\n{}\n", names, roff(with_stop(o.doc) + details(o)));
    }
    return text;
}

std::string roff_head(const std::string& name, const std::string& doc) {
    return fmt::format(".TH {} 1 \"\" \"smelt {}\" \"smelt\"\n.SH NAME\n{} \\- {}\n", ascii_upper(roff(name)),
                       version(), roff(name), roff(doc));
}

ManualPage verb_page(const VerbRow& verb) {
    const std::string name = "smelt-" + verb.names[0];
    std::string text = roff_head(name, verb.doc);
    text +=
        fmt::format(".SH SYNOPSIS\n{}\n.SH OPTIONS\n{}", roff(synopsis(verb)), roff_options(verb.options));
    if (!verb.footer.empty()) text += fmt::format(".SH NOTES\n.nf\n{}\n.fi\n", roff(verb.footer));
    text +=
        ".SH EXIT STATUS\n0: done. 1: it failed. 2: the command line is wrong.\n.SH SEE ALSO\n.BR smelt "
        "(1)\n";
    return {name + ".1", text};
}

// Inside a table of Markdown.
std::string cell(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '|' || c == '*' || c == '<' || c == '[') out += '\\';
        out += c == '\n' ? ' ' : c;
    }
    return out;
}

std::string markdown_rows(const std::vector<OptionRow>& options) {
    std::string text = "| | | default |\n|---|---|---|\n";
    for (const OptionRow& o : options) {
        std::string names;
        for (const std::string& name : o.names)
            names +=
                fmt::format("{}`{}`", names.empty() ? "" : ", ", o.is_argument ? ascii_upper(name) : name);
        if (!o.value.empty() && !o.is_argument) names += " " + o.value;
        std::string doc = o.doc;
        if (!o.choices.empty()) doc += fmt::format(" ({})", fmt::join(o.choices, ", "));
        if (!o.environment.empty()) doc += fmt::format(" (`{}`)", o.environment);
        text += fmt::format("| {} | {} | {} |\n", names, cell(doc),
                            o.is_required ? "required" : cell(o.fallback));
    }
    return text;
}

std::string peer_rows() {
    std::string text = "| verb | flag | of | here |\n|---|---|---|---|\n";
    for (const PeerFlag& f : peer_flags()) {
        const auto listed = [](std::string_view list, const char* between) {
            std::string text;
            for (const char c : list) text += c == ',' ? between : std::string(1, c);
            return text;
        };
        const char* effect = f.effect == PeerEffect::same   ? "the same as `"
                             : f.effect == PeerEffect::none ? "no effect: "
                                                            : "refused: ";
        const std::string silent = *f.silent == '\0' ? "" : fmt::format(" (accepted with {})", f.silent);
        text += fmt::format("| {} | `{}` | {} | {}{}{}{} |\n", listed(f.verbs, ", "), listed(f.names, "`, `"),
                            f.of, effect, cell(f.text), f.effect == PeerEffect::same ? "`" : "", silent);
    }
    return text;
}

}  // namespace

std::vector<ManualPage> manual_pages(const CommandTable& table) {
    std::string text = roff_head("smelt", table.doc) + ".SH SYNOPSIS\nsmelt VERB [OPTION]...\n.SH VERBS\n";
    std::vector<ManualPage> pages;
    for (const VerbRow& verb : table.verbs) {
        text += fmt::format(".TP\n\\fB{}\\fR\n{}. See\n.BR smelt\\-{} (1).\n", fmt::join(verb.names, ", "),
                            roff(verb.doc), verb.names[0]);
        pages.push_back(verb_page(verb));
    }
    text += ".SH OPTIONS\n" + roff_options(table.common);
    text +=
        ".SH ENVIRONMENT\n.TP\nHF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE\n"
        "As Hugging Face's own tools know them.\n.TP\nNO_COLOR\nNo dimmed text.\n";
    pages.insert(pages.begin(), {"smelt.1", text});
    return pages;
}

std::string flags_document(const CommandTable& table) {
    std::string text =
        "# Flags\n\nMade by `smelt manual --flags` from the definitions that parse the command line; a test "
        "compares.\n\n## For every verb\n\n" +
        markdown_rows(table.common);
    for (const VerbRow& verb : table.verbs) {
        text += fmt::format("\n## smelt {}\n\n{}.\n\n{}", fmt::join(verb.names, ", smelt "), verb.doc,
                            markdown_rows(verb.options));
    }
    text +=
        "\n## Flags of llama.cpp and vLLM\n\nScripts for `llama-cli` run with `smelt run`, those for "
        "`llama-server` and `vllm serve` with `smelt serve`.\nFlags that smelt spells alike are above. The "
        "others: the same under another name; or accepted, with a warning that says why they have no\n"
        "effect; or refused, because what the script gets would not be what it asks for.\n\n" +
        peer_rows();
    return text;
}

}  // namespace smelt
