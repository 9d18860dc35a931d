// Ranges are those beyond which a float logit overflows, or a value has no effect that a smaller one has not.
#include "sampling/sampling_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

namespace smelt {

namespace {

using S = SamplingParams;
constexpr double max_count = std::numeric_limits<int>::max();

constexpr SamplingParam table[] = {
    {.name = "temperature",
     .flags = "--temp,--temperature",
     .ollama = "temperature",
     .anthropic = true,
     .responses = true,
     .number = &S::temperature,
     .max = 100,
     .openai_max = 2,
     .doc = "How freely tokens are drawn; 0: always the likeliest one."},
    {.name = "top_k",
     .flags = "--top-k",
     .ollama = "top_k",
     .anthropic = true,
     .integer = &S::top_k,
     .min = -1,
     .max = max_count,
     .negative_is_off = true,
     .doc = "Draw from this many of the likeliest tokens; 0 or -1: from all."},
    {.name = "top_p",
     .flags = "--top-p",
     .ollama = "top_p",
     .anthropic = true,
     .responses = true,
     .number = &S::top_p,
     .doc = "Draw from the likeliest tokens whose probabilities add up to this."},
    {.name = "min_p",
     .flags = "--min-p",
     .ollama = "min_p",
     .number = &S::min_p,
     .doc = "Leave out tokens less likely than this fraction of the likeliest."},
    {.name = "repetition_penalty",
     .also = "repeat_penalty",
     .flags = "--repeat-penalty",
     .ollama = "repeat_penalty",
     .number = &S::repetition_penalty,
     .min = 0.01,
     .max = 100,
     .openai_max = 10,
     .doc = "Divides the logits of tokens that the prompt or answer has; 1: no penalty."},
    {.name = "presence_penalty",
     .flags = "--presence-penalty",
     .ollama = "presence_penalty",
     .number = &S::presence_penalty,
     .min = -100,
     .max = 100,
     .openai_min = -2,
     .openai_max = 2,
     .fallback = "0",
     .doc = "Subtracted once from the logit of a token that the answer has."},
    {.name = "frequency_penalty",
     .flags = "--frequency-penalty",
     .ollama = "frequency_penalty",
     .number = &S::frequency_penalty,
     .min = -100,
     .max = 100,
     .openai_min = -2,
     .openai_max = 2,
     .fallback = "0",
     .doc = "Subtracted from a token's logit each time the answer has it."},
    {.name = "repeat_last_n",
     .flags = "--repeat-last-n",
     .ollama = "repeat_last_n",
     .integer = &S::penalty_last_n,
     .min = -1,
     .max = max_count,
     .fallback = "-1",
     .doc = "How many tokens back these penalties look; -1: all of prompt and answer."},
    {.name = "top_n_sigma",
     .flags = "--top-n-sigma",
     .number = &S::top_n_sigma,
     .min = -1,
     .max = 1000,
     .negative_is_off = true,
     .fallback = "0",
     .doc = "Leave out tokens whose logit is this many standard deviations below the largest; 0 or less: "
            "none."},
    {.name = "typical_p",
     .flags = "--typical-p,--typical",
     .ollama = "typical_p",
     .number = &S::typical_p,
     .fallback = "1",
     .doc = "Draw from the most typical tokens (nearest the expected information) up to this probability; 1: "
            "all."},
    {.name = "xtc_probability",
     .flags = "--xtc-probability",
     .number = &S::xtc_probability,
     .fallback = "0",
     .doc = "XTC: how often all likely tokens but the least likely of them are left out."},
    {.name = "xtc_threshold",
     .flags = "--xtc-threshold",
     .number = &S::xtc_threshold,
     .fallback = "0.1",
     .doc = "XTC: from which probability a token counts as likely."},
    {.name = "dry_multiplier",
     .flags = "--dry-multiplier",
     .number = &S::dry_multiplier,
     .max = 100,
     .fallback = "0",
     .doc = "DRY: penalty on a token that lengthens a repetition; 0: none."},
    {.name = "dry_base",
     .flags = "--dry-base",
     .number = &S::dry_base,
     .min = 1,
     .max = 100,
     .fallback = "1.75",
     .doc = "DRY: factor by which the penalty grows with each repeated token."},
    {.name = "dry_allowed_length",
     .flags = "--dry-allowed-length",
     .integer = &S::dry_allowed_length,
     .min = 1,
     .max = max_count,
     .fallback = "2",
     .doc = "DRY: repetitions shorter than this are free."},
    {.name = "dry_penalty_last_n",
     .flags = "--dry-penalty-last-n",
     .integer = &S::dry_last_n,
     .min = -1,
     .max = max_count,
     .fallback = "-1",
     .doc = "DRY: how many tokens back to look for repetitions; -1: all."},
};

}  // namespace

void SamplingParam::set(SamplingParams& to, double value) const {
    if (negative_is_off) value = std::max(0.0, value);
    if (number != nullptr) {
        to.*number = static_cast<float>(value);
    } else {
        to.*integer = static_cast<int>(value);
    }
}

double SamplingParam::get(const SamplingParams& from) const {
    return number != nullptr ? static_cast<double>(from.*number) : from.*integer;
}

std::span<const SamplingParam> sampling_table() {
    return table;
}

const SamplingParam* find_sampling_param(std::string_view name) {
    if (name.empty()) return nullptr;
    const auto is_meant = [&](const SamplingParam& p) {
        const std::string flags = fmt::format("{},", p.flags), flag = fmt::format("--{},", name);
        return name == p.name || name == p.also || name == p.ollama || flags.find(flag) != std::string::npos;
    };
    const auto it = std::ranges::find_if(table, is_meant);
    return it == std::end(table) ? nullptr : &*it;
}

void SamplingChanges::set(const SamplingParam& param, double value) {
    const auto known = std::ranges::find(values_, &param, [](const auto& v) { return v.first; });
    if (known != values_.end()) {
        known->second = value;
    } else {
        values_.emplace_back(&param, value);
    }
}

void SamplingChanges::update(const SamplingChanges& later) {
    for (const auto& [param, value] : later.values_) set(*param, value);
}

void SamplingChanges::apply(SamplingParams& to) const {
    for (const auto& [param, value] : values_) param->set(to, value);
}

std::string check_sampling(const SamplingParams& p, int vocab_size) {
    for (const SamplingParam& row : table) {
        const double value = row.get(p);
        const double min = row.negative_is_off ? 0 : row.min;
        // A float that stands for 0.01 may be a little less.
        if (!(value >= min - 1e-6 && value <= row.max)) {
            return fmt::format("{}: expected {} to {}, found {:.6g}", row.name, min, row.max, value);
        }
    }
    for (const auto& [id, bias] : p.logit_bias) {
        if (id < 0 || id >= vocab_size) {
            return fmt::format("logit_bias: expected ids 0 to {}, found {}", vocab_size - 1, id);
        }
        if (!(std::fabs(bias) <= 1e6f)) {
            return fmt::format("logit_bias of {}: expected -1e6 to 1e6, found {}", id, bias);
        }
    }
    return "";
}

}  // namespace smelt
