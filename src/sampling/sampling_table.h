// The parameters of sampling that are numbers, each once: its spellings, its range, what it is for. Fields of
// requests, options of the command, their checks and their documentation are made of this table.
#pragma once

#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "sampling/sampling_params.h"

namespace smelt {

struct SamplingParam {
    std::string_view name;                      // in requests of OpenAI's kind
    std::string_view also = "";                 // llama.cpp's spelling there, where it is another
    std::string_view flags = "";                // of `smelt run`
    std::string_view ollama = "";               // among the options of Ollama's requests; empty: not there
    bool anthropic = false, responses = false;  // these dialects have it, by its name

    float SamplingParams::*number = nullptr;  // one of the two
    int SamplingParams::*integer = nullptr;
    double min = 0, max = 1;
    double openai_min = min, openai_max = max;  // where the dialects of OpenAI and Anthropic allow less
    bool negative_is_off = false;               // -1 is another way to write 0
    std::string_view fallback = "";             // JSON text; empty: the model's own value
    std::string_view doc = "";

    void set(SamplingParams& to, double value) const;
    double get(const SamplingParams& from) const;
};

std::span<const SamplingParam> sampling_table();
const SamplingParam* find_sampling_param(std::string_view name);  // by any spelling or flag; null: none

// What a request or a person changes of a model's sampling.
class SamplingChanges {
 public:
    void set(const SamplingParam& param, double value);
    void update(const SamplingChanges& later);  // whose values win
    void apply(SamplingParams& to) const;

 private:
    std::vector<std::pair<const SamplingParam*, double>> values_;
};

}  // namespace smelt
