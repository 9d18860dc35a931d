// smelt manual: the manual pages, and docs/FLAGS.md.
#include <fmt/format.h>

#include <filesystem>

#include "apps/option_table.h"
#include "apps/verbs.h"
#include "base/atomic_file.h"

namespace smelt {

namespace {

struct ManualOptions {
    std::string folder;
    bool flags = false;
};

void write_pages(const CommandTable& table, const std::filesystem::path& folder) {
    std::filesystem::create_directories(folder);
    for (const ManualPage& page : manual_pages(table)) {
        AtomicFile file(folder / page.file);
        file.write(page.text);
        file.commit();
    }
}

}  // namespace

Verb add_manual(CLI::App& smelt) {
    auto o = std::make_shared<ManualOptions>();
    CLI::App* verb = smelt.add_subcommand("manual", "Write the manual pages into a folder");
    verb->add_option("out", o->folder, "The folder, such as share/man/man1");
    verb->add_flag("--flags", o->flags, "Print all flags as Markdown instead");
    verb->footer(
        "Examples:\n  smelt manual man1 && man man1/smelt-run.1\n  smelt manual --flags > docs/FLAGS.md");
    return {verb, [o, &smelt] {
                if (o->flags == !o->folder.empty())
                    throw CLI::ValidationError("manual", "give either a folder or --flags");
                const CommandTable table = command_table(smelt);
                if (o->flags) {
                    fmt::print("{}", flags_document(table));
                } else {
                    write_pages(table, o->folder);
                }
            }};
}

}  // namespace smelt
