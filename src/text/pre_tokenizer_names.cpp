// The patterns are those of the models' tokenizer.json.
#include "text/pre_tokenizer_names.h"

#include <algorithm>

#include "text/vocabulary.h"

namespace smelt {

namespace {

constexpr std::string_view qwen35_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view deepseek3_words =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view chinese = R"([\x{4e00}-\x{9fa5}\x{0800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";
constexpr std::string_view chinese_japanese = R"([\x{4e00}-\x{9fa5}\x{3040}-\x{309f}\x{30a0}-\x{30ff}]+)";
constexpr std::string_view bloom_pattern =
    R"( ?[^(\s|.,!?\x{2026}\x{3002}\x{ff0c}\x{3001}\x{0964}\x{06d4}\x{060c})]+)";
constexpr std::string_view bailing_pattern =
    R"('(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|)"
    R"(\s+(?!\S)|\s+)";
constexpr std::string_view seed_coder_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view minicpm5_words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view exaone_moe_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+)";

constexpr PreTokenizerName plain(std::string_view name, std::string_view pattern) {
    return {.name = name, .patterns = {pattern}};
}
constexpr PreTokenizerName digits_apart(std::string_view name) {
    return {.name = name, .patterns = {R"(\p{N})", gpt2_pattern}};
}
constexpr PreTokenizerName like_llama3(std::string_view name) {
    return {.name = name, .patterns = {llama3_pattern}, .ignore_merges = true, .add_bos = true};
}
constexpr PreTokenizerName like_qwen2(std::string_view name) {
    return {.name = name, .patterns = {qwen2_pattern}, .nfc = true};
}

// The first entry with a vocabulary's patterns is the name that is written.
constexpr PreTokenizerName names[] = {
    plain("gpt-2", gpt2_pattern),
    plain("phi-2", gpt2_pattern),
    plain("mpt", gpt2_pattern),
    plain("olmo", gpt2_pattern),
    plain("jais", gpt2_pattern),
    plain("jina-es", gpt2_pattern),
    plain("jina-de", gpt2_pattern),
    plain("jina-v2-es", gpt2_pattern),
    plain("jina-v2-de", gpt2_pattern),
    plain("gigachat", gpt2_pattern),
    plain("a.x-4.0", gpt2_pattern),
    plain("mellum", gpt2_pattern),
    plain("modern-bert", gpt2_pattern),
    plain("exaone4", gpt2_pattern),
    plain("trillion", gpt2_pattern),
    plain("granite-docling", gpt2_pattern),
    like_llama3("llama-bpe"),
    like_llama3("llama3"),
    like_llama3("llama-v3"),
    like_llama3("falcon3"),
    like_llama3("falcon-h1"),
    like_llama3("pixtral"),
    like_llama3("midm-2.0"),
    like_llama3("lfm2"),
    plain("glm4", llama3_pattern),
    plain("chatglm-bpe", llama3_pattern),
    plain("dbrx", llama3_pattern),
    plain("smaug-bpe", llama3_pattern),
    like_qwen2("qwen2"),
    like_qwen2("deepseek-r1-qwen"),
    like_qwen2("kormo"),
    like_qwen2("megrez"),
    plain("stablelm2", qwen2_pattern),
    plain("hunyuan", qwen2_pattern),
    plain("solar-open", qwen2_pattern),
    plain("grok-2", qwen2_pattern),
    {.name = "qwen35", .patterns = {qwen35_pattern}, .nfc = true},
    plain("gpt-4o", o200k_pattern),
    plain("llama4", o200k_pattern),
    plain("kanana2", o200k_pattern),
    plain("minimax-m2", o200k_pattern),
    {.name = "tekken", .patterns = {tekken_pattern}, .ignore_merges = true, .add_bos = true},
    digits_apart("smollm"),
    digits_apart("starcoder"),
    digits_apart("refact"),
    digits_apart("codeshell"),
    digits_apart("exaone"),
    digits_apart("minerva-7b"),
    {.name = "command-r", .patterns = {R"(\p{N})", gpt2_pattern}, .nfc = true},
    {.name = "falcon", .patterns = {R"([\p{P}\$\+<=>\^~\|`]+)", gpt2_pattern, "[0-9][0-9][0-9]"}},
    {.name = "deepseek-coder", .patterns = {"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)", chinese, R"(\p{N})"}},
    {.name = "deepseek-v3", .patterns = {R"(\p{N}{1,3})", chinese_japanese, deepseek3_words}},
    {.name = "hunyuan-dense", .patterns = {R"(\p{N}{1,3})", chinese_japanese, deepseek3_words}},
    {.name = "joyai-llm", .patterns = {R"(\p{N}{1,3})", chinese_japanese, deepseek3_words}},
    plain("bloom", bloom_pattern),
    plain("poro-chat", bloom_pattern),
    plain("gpt3-finnish", bloom_pattern),
    {.name = "viking", .patterns = {bloom_pattern, R"(\p{N})"}},
    plain("bailingmoe", bailing_pattern),
    plain("bailingmoe2", bailing_pattern),
    plain("llada-moe", bailing_pattern),
    plain("seed-coder", seed_coder_pattern),
    plain("exaone-moe", exaone_moe_pattern),
    {.name = "minicpm5", .patterns = {R"(\p{N}{1,3})", minicpm5_words}, .ignore_merges = true},
};

}  // namespace

std::vector<std::string> PreTokenizerName::list() const {
    std::vector<std::string> result;
    for (const std::string_view pattern : patterns) {
        if (!pattern.empty()) result.emplace_back(pattern);
    }
    return result;
}

const PreTokenizerName* find_pre_tokenizer(std::string_view name) {
    const auto it = std::ranges::find(names, name, &PreTokenizerName::name);
    return it == std::end(names) ? nullptr : it;
}

const PreTokenizerName* name_of_patterns(const std::vector<std::string>& patterns) {
    const auto it =
        std::ranges::find_if(names, [&](const PreTokenizerName& p) { return p.list() == patterns; });
    return it == std::end(names) ? nullptr : it;
}

std::string known_pre_tokenizers() {
    std::string result;
    for (const PreTokenizerName& p : names) result.append(result.empty() ? "" : ", ").append(p.name);
    return result;
}

}  // namespace smelt
