// smelt rm: pulled models off the disk.
#include <fmt/format.h>

#include "apps/hub_model.h"
#include "apps/verbs.h"
#include "base/units.h"

namespace smelt {

Verb add_rm(CLI::App& smelt) {
    auto models = std::make_shared<std::vector<std::string>>();
    CLI::App* verb = smelt.add_subcommand("rm", "Remove models that were pulled");
    verb->add_option("models", *models,
                     "ORG/NAME, or ORG/NAME:FILE for one file of it, as smelt list shows them")
        ->required();
    verb->footer("Examples:\n  smelt rm Qwen/Qwen3-0.6B\n  smelt rm Qwen/Qwen3-0.6B-GGUF:Q8_0");
    return {verb, [models] {
                const HubOptions options = hub_options();
                for (const std::string& text : *models) {
                    const HubId id = *parse_hub_id(text.starts_with("hf:") ? text : "hf:" + text);
                    fmt::print("{}: {} freed\n", id.text(), bytes_text(remove_cached(options, id)));
                }
            }};
}

}  // namespace smelt
