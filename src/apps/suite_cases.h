// The cases of `smelt bench --suite`: what is varied, and how far. Knows no models.
#pragma once

#include <string>
#include <vector>

namespace smelt {

struct SuiteCase {
    std::string
        kind;  // "prompt", "answer", "streams", "strategy", "threads", "format", "case", "start", "ops"
    std::string model, device, format = {};   // format "": the model as it is
    int threads = 0;                          // 0: as the command line says
    int prompt = 0, answer = 0, streams = 1;  // tokens, tokens, answers at once
    std::string strategy = {};                // of kind "strategy"
    std::string name = {}, question = {};     // of kind "case"
    bool together = false;                    // with all models at once
    bool may_stop = false;                    // where the model ends its answer
    bool over_time = false;                   // how fast the answer is, piece by piece

    // The same in every run of the same suite; results are found again by it.
    std::string id() const;
    // Of the same work on whatever device.
    std::string id_without_device() const;
    // Cases of one target run one after the other.
    std::string target() const;
    // For a person who waits.
    std::string text() const;
};

struct SuiteScope {
    std::vector<std::string> models, devices, kinds;  // no kinds: all
    std::vector<std::string> formats;                 // of kind "format"
    int n_ctx = 0;                                    // tokens of prompt and answer at most, over all models
    int n_cores = 1;
    bool quick = false, has_text = true;  // the models have vocabularies
};
std::vector<SuiteCase> suite_cases(const SuiteScope& scope);

const std::vector<std::string>& suite_kinds();
const std::vector<std::string>& suite_strategies();

}  // namespace smelt
