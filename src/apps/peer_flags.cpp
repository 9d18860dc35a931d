// The table, and how a command line is rewritten by it. Flags that smelt spells the same way itself are not
// in it.
#include "apps/peer_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <optional>
#include <sstream>

#include "apps/usage.h"
#include "base/error.h"
#include "base/json.h"

namespace smelt {

namespace {

using enum PeerEffect;
constexpr PeerValue flag = PeerValue::no, value = PeerValue::yes, maybe = PeerValue::maybe,
                    many = PeerValue::many;
constexpr const char* both = "run,serve";
constexpr const char* llama = "llama.cpp";
constexpr const char* vllm = "vLLM";

constexpr const char* devices = "--device and --device-map say where layers are";
constexpr const char* templates = "templates are always Jinja; --chat-template gives another";
constexpr const char* samplers =
    "the order is bias, penalties, DRY, temperature, top-n-sigma, top-k, typical-p, top-p, min-p, XTC; 0 or "
    "1 turns one off, as in --top-k 0";
constexpr const char* draft_place = "the draft model is on the device of the model that it drafts for";
constexpr const char* no_shift = "the context is never shifted";
constexpr const char* one_process = "one process uses one machine; replicas in --config share the load";
constexpr const char* always_prefix =
    "prompts that begin alike are always computed once, which changes no result";
constexpr const char* always_batch = "requests are always batched as they come";
constexpr const char* chunks = "smelt chooses how much of a prompt a step takes";
constexpr const char* parsers = "the parser follows from the model's template";

// clang-format off
const PeerFlag table[] = {
    {both,    "-hf,-hfr,--hf-repo",                          llama, value, same, "--model"},
    {both,    "--ctx-size",                                  llama, value, same, "--ctx"},
    {"serve", "--max-model-len",                             vllm,  value, same, "--ctx"},
    {both,    "--predict,--n-predict",                       llama, value, same, "--max-tokens"},
    {both,    "-sys,--system-prompt",                        llama, value, same, "--system"},
    {both,    "-ctk,--cache-type-k",                         llama, value, same, "--kv"},
    {both,    "-ctv,--cache-type-v",                         llama, value, same, "--kv"},
    {"serve", "--kv-cache-dtype",                            vllm,  value, same, "--kv", "auto"},
    {"serve", "-np,--parallel",                              llama, value, same, "--max-seqs"},
    {"serve", "--max-num-seqs",                              vllm,  value, same, "--max-seqs"},
    {"serve", "-a,--alias",                                  llama, value, same, "--name"},
    {"serve", "--served-model-name",                         vllm,  many,  same, "--name"},
    {both,    "--chat-template-file",                        llama, value, same, "--chat-template"},
    {"serve", "--default-chat-template-kwargs",              vllm,  value, same, "--chat-template-kwargs"},
    {"run",   "--no-conversation,-no-cnv",                   llama, flag,  same, "--raw"},
    {"run",   "--grammar-file",                              llama, value, same, "--grammar"},
    {"run",   "-j,-jf,--json-schema-file",                   llama, value, same, "--json-schema"},
    {"run",   "-r,--reverse-prompt",                         llama, value, same, "--stop"},
    {both,    "--debug",                                     vllm,  flag,  same, "--verbose"},
    {"serve", "--ssl-cert-file",                             llama, value, same, "--tls-cert"},
    {"serve", "--ssl-key-file",                              llama, value, same, "--tls-key"},
    {"serve", "--ssl-certfile",                              vllm,  value, same, "--tls-cert"},
    {"serve", "--ssl-keyfile",                               vllm,  value, same, "--tls-key"},
    {both,    "--log-disable",                               llama, flag,  same, "--quiet"},
    {both,    "--log-verbose",                               llama, flag,  same, "--verbose"},

    {both,    "-ngl,--gpu-layers,--n-gpu-layers",            llama, value, none, devices, "all,auto"},
    {both,    "-sm,--split-mode,-mg,--main-gpu",             llama, value, none, devices, "none,layer"},
    {both,    "-fa,--flash-attn",                            llama, maybe, none, "attention always goes over blocks of the cache", "on,auto,1,true"},
    {both,    "-b,--batch-size,-ub,--ubatch-size",           llama, value, none, chunks},
    {"serve", "--max-num-batched-tokens",                    vllm,  value, none, chunks},
    {both,    "-tb,--threads-batch",                         llama, value, none, "--threads is for prompts and answers"},
    {"serve", "--threads-http",                              llama, value, none, "one thread serves all connections"},
    {both,    "-nr",                                         llama, flag,  same, "--no-repack"},
    {both,    "--mlock,--no-mmap,--mmap",                    llama, flag,  none, "files are mapped, and the system caches them"},
    {both,    "--numa",                                      llama, value, none, "threads are not bound to nodes"},
    {both,    "--no-warmup,--warmup",                        llama, flag,  none, "smelt does not warm up"},
    {"run",   "-cnv,--conversation,-st,--single-turn,-i,--interactive,--color,--simple-io,--no-display-prompt,--perf,--no-perf,--jinja", llama, flag, none, "so it is here, or it is about looks"},
    {"serve", "--jinja",                                     llama, flag,  none, "templates are always Jinja"},
    {"serve", "-cb,--cont-batching",                         llama, flag,  none, always_batch},
    {"serve", "--cache-prompt",                              llama, flag,  none, always_prefix},
    {"serve", "--no-cache-prompt",                           llama, flag,  none, always_prefix},
    {"serve", "--cache-reuse,-cram,--cache-ram",             llama, value, none, always_prefix},
    {both,    "--no-context-shift",                          llama, flag,  none, no_shift},
    {both,    "--keep",                                      llama, value, none, no_shift, "0,-1"},
    {"serve", "--embeddings,--embedding",                    llama, flag,  none, "/v1/embeddings is always there"},
    {"serve", "--metrics,--slots,--no-slots,--props",        llama, flag,  none, "/metrics and /performance are always there"},
    {"serve", "--reasoning-format",                          llama, value, none, "thinking goes to reasoning_content", "auto,deepseek"},
    {both,    "-md,--model-draft",                          llama, value, same, "--draft-model"},
    {both,    "-hfd,--hf-repo-draft",                       llama, value, same, "--draft-model"},
    {both,    "--draft,--draft-n",                          llama, value, same, "--draft-max"},
    {both,    "--draft-n-min",                              llama, value, same, "--draft-min"},
    {both,    "--spec-type",                                llama, value, same, "--speculate"},
    {both,    "-ngld,--gpu-layers-draft,--n-gpu-layers-draft,-devd,--device-draft", llama, value, none, draft_place},
    {both,    "-cd,--ctx-size-draft",                       llama, value, none, "its context is the model's"},
    {"serve", "-lv,--verbosity,--log-verbosity",             llama, value, none, "-v and -q say how much is logged"},
    {"serve", "--gpu-memory-utilization,--cpu-offload-gb,--swap-space", vllm, value, none, "--memory-budget takes GB, --kv-tokens the size of the KV cache"},
    {"serve", "--enforce-eager",                             vllm,  flag,  none, "there are no graphs to capture"},
    {"serve", "--trust-remote-code",                         vllm,  flag,  none, "code that comes with a model is never run"},
    {"serve", "--enable-prefix-caching,--no-enable-prefix-caching", vllm, flag, none, always_prefix},
    {"serve", "--enable-chunked-prefill,--no-enable-chunked-prefill", vllm, flag, none, chunks},
    {"serve", "--disable-log-requests,--no-enable-log-requests", vllm, flag, same, "--access-log=off"},
    {"serve", "--disable-uvicorn-access-log",                vllm,  flag,  same, "--access-log=off"},
    {"serve", "--disable-log-stats",                         vllm,  flag,  none, "/performance and /metrics have the numbers"},
    {"serve", "--uvicorn-log-level",                         vllm,  value, none, "-v and -q say how much is logged"},
    {"serve", "--enable-auto-tool-choice,--enable-reasoning", vllm, flag,  none, parsers},
    {"serve", "--tool-call-parser,--reasoning-parser",       vllm,  value, none, parsers},
    {"serve", "--quantization",                              vllm,  value, none, "the model's files say how they are quantized"},
    {"serve", "--load-format",                               vllm,  value, none, "the model's files say what they are", "auto"},
    {"serve", "--block-size,--attention-backend,--max-logprobs", vllm, value, none, "it is fixed here"},
    {"serve", "--scheduling-policy",                         vllm,  value, none, "requests say their priority"},
    {"serve", "--generation-config",                         vllm,  value, none, "the model's own is used", "auto"},

    {"serve", "--reasoning-budget",                          llama, value, refused, "requests say thinking_token_budget", "-1"},
    {both,    "--samplers,--sampling-seq,--sampler-seq",     llama, value, refused, samplers},
    {"serve", "--grammar,--grammar-file,-j,--json-schema,-jf,--json-schema-file", llama, value, refused, "requests say it: grammar, json_schema or response_format"},
    {"serve", "--override-generation-config",                vllm,  value, refused, "--temp, --top-p and the others set what requests leave open"},
    {both,    "-mu,--model-url",                             llama, value, refused, "smelt fetches from the Hugging Face hub only: -m ORG/NAME:FILE"},
    {both,    "-hff,--hf-file",                              llama, value, refused, "write -m ORG/NAME:FILE"},
    {"run",   "-hft,--hf-token",                             llama, value, refused, "set HF_TOKEN: other users see what is on a command line"},
    {"serve", "-hft,--hf-token",                             "both", value, refused, "set HF_TOKEN: other users see what is on a command line"},
    {both,    "--no-jinja",                                  llama, flag,  refused, templates},
    {both,    "--rope-freq-base,--rope-freq-scale",          llama, value, refused, "write --rope-scaling linear,factor=2; the base is the model's"},
    {both,    "--rope-scale,--yarn-orig-ctx",                llama, value, same, "--rope-scaling"},
    {both,    "-ts,--tensor-split,-ot,--override-tensor",    llama, value, refused, devices},
    {both,    "--control-vector",                            llama, value, refused, "there are no control vectors; --lora takes adapters"},
    {"serve", "--context-shift",                             llama, flag,  refused, "a conversation that fills the context ends with finish_reason length"},
    {"serve", "-to,--timeout",                               llama, value, refused, "--header-timeout, --body-timeout, --idle-timeout and --write-timeout say which"},
    {"serve", "--no-webui",                                  llama, flag,  refused, "the pages are always there; a proxy in front can withhold /chat"},
    {"serve", "--dtype",                                     vllm,  value, refused, "weights stay as the file has them; smelt quantize and convert write others", "auto"},
    {"serve", "-tp,--tensor-parallel-size,-pp,--pipeline-parallel-size,-dp,--data-parallel-size", vllm, value, refused, one_process, "1"},
    {"serve", "--revision",                                  vllm,  value, refused, "write ORG/NAME@REVISION"},
    {"serve", "--download-dir",                              vllm,  value, refused, "set HF_HUB_CACHE"},
    {"serve", "--tokenizer,--hf-config-path,--hf-overrides,--rope-theta", vllm, value, refused, "everything about a model comes from its folder or file"},
    {"serve", "--allowed-origins",                           vllm,  value, refused, "--cors-origins takes them, one after the other"},
    {"serve", "--enable-lora",                               vllm,  flag,  none, "adapters are always taken"},
    {"serve", "--speculative-config,-sc",                    vllm,  value, same,    "--speculate"},
};
// clang-format on

bool contains(std::string_view list, std::string_view word) {
    while (!list.empty()) {
        const size_t comma = std::min(list.find(','), list.size());
        if (list.substr(0, comma) == word) return true;
        list.remove_prefix(std::min(comma + 1, list.size()));
    }
    return false;
}

const PeerFlag* find_flag(const std::string& verb, const std::string& name) {
    const auto it = std::ranges::find_if(
        table, [&](const PeerFlag& f) { return contains(f.verbs, verb) && contains(f.names, name); });
    return it == std::end(table) ? nullptr : &*it;
}

std::vector<std::string> peer_names(const std::string& verb) {
    std::vector<std::string> names;
    for (const PeerFlag& f : table) {
        if (!contains(f.verbs, verb)) continue;
        std::istringstream list(f.names);
        for (std::string name; std::getline(list, name, ',');) names.push_back(name);
    }
    return names;
}

const CLI::Option* own_option(const CLI::App& smelt, const CLI::App& verb, const std::string& name) {
    const CLI::Option* option = verb.get_option_no_throw(name);
    return option != nullptr ? option : smelt.get_option_no_throw(name);
}

// What is behind a flag, and how the line goes on with it.
class Translator {
 public:
    Translator(const CLI::App& smelt, const CLI::App& verb, const std::vector<std::string>& in, size_t start)
        : smelt_(smelt), verb_(verb), in_(in), at_(start) {}

    void run(Translation& out) {
        while (at_ < in_.size()) {
            const std::string& word = in_[at_];
            if (word == "--") break;
            if (word.size() < 2 || word[0] != '-') {
                out.arguments.push_back(in_[at_++]);
                continue;
            }
            translate(out);
        }
        while (at_ < in_.size()) out.arguments.push_back(in_[at_++]);
        if (scale_ || original_) {
            out.arguments.push_back(fmt::format("--rope-scaling={},factor={}{}", rope_.value_or("yarn"),
                                                scale_.value_or("4"),
                                                original_ ? ",original=" + *original_ : ""));
        } else if (rope_) {
            out.arguments.push_back("--rope-scaling=" + *rope_);
        }
        // Each of llama.cpp's flags is about one half of what --kv says.
        if (k_ || v_) {
            out.arguments.push_back(fmt::format("--kv=k={},v={}", k_.value_or("f16"), v_.value_or("f16")));
        }
    }

 private:
    void translate(Translation& out) {
        const std::string word = in_[at_++];
        const size_t equals = word.starts_with("--") ? word.find('=') : std::string::npos;
        const std::string name = word.substr(0, equals);
        const bool has_value = equals != std::string::npos;
        if (name == "--rope-scaling" && own_option(smelt_, verb_, name) != nullptr) {
            if (!has_value && at_ == in_.size()) throw CLI::ArgumentMismatch(name + ": a value is missing");
            rope_ = has_value ? word.substr(equals + 1) : in_[at_++];
            return;
        }
        if (const CLI::Option* own = own_option(smelt_, verb_, name)) {
            out.arguments.push_back(word);
            const bool takes_one = own->get_items_expected_max() > 0 && !has_value;
            if (takes_one && at_ == in_.size()) throw CLI::ArgumentMismatch(name + ": a value is missing");
            if (takes_one) out.arguments.push_back(in_[at_++]);
            return;
        }
        const PeerFlag* f = find_flag(verb_.get_name(), name);
        if (f == nullptr) {
            // "-n64", "-vq"
            const bool joined = word[1] != '-' && own_option(smelt_, verb_, word.substr(0, 2)) != nullptr;
            if (!joined) refuse_option(smelt_, &verb_, name, peer_names(verb_.get_name()));
            out.arguments.push_back(word);
            return;
        }
        std::optional<std::string> given;
        if (has_value) {
            given = word.substr(equals + 1);
        } else if (f->value == many) {
            given = take_many(name);
        } else if (f->value == value) {
            if (at_ == in_.size()) throw CLI::ArgumentMismatch(name + ": a value is missing");
            given = in_[at_++];
        } else if (f->value == maybe && at_ < in_.size() &&
                   contains("on,off,auto,0,1,true,false", in_[at_])) {
            given = in_[at_++];
        }
        apply(*f, name, given, out);
    }

    // "a b c" as "a,b,c".
    std::string take_many(const std::string& name) {
        std::string all;
        while (at_ < in_.size() && !in_[at_].starts_with('-')) all += (all.empty() ? "" : ",") + in_[at_++];
        if (all.empty()) throw CLI::ArgumentMismatch(name + ": a value is missing");
        return all;
    }

    void apply(const PeerFlag& f, const std::string& name, const std::optional<std::string>& given,
               Translation& out) {
        if (given && contains(f.silent, *given)) return;
        switch (f.effect) {
            case same:
                if (contains("-ctk,--cache-type-k", name)) return void(k_ = given);
                if (contains("-ctv,--cache-type-v", name)) return void(v_ = given);
                if (name == "--speculative-config" || name == "-sc")
                    return add_vllm_drafts(name, *given, out);
                if (name == "--spec-type") {
                    out.arguments.push_back("--speculate=" + lookup_type(name, *given));
                    return;
                }
                if (name == "--rope-scale") return void(scale_ = given);
                if (name == "--yarn-orig-ctx") return void(original_ = given);
                if (name.ends_with("-file") || name == "-jf") check_file(name, *given);
                out.arguments.push_back(given ? fmt::format("{}={}", f.text, our_value(f, *given)) : f.text);
                return;
            case none:
                out.warnings.push_back(fmt::format("{} has no effect: {}", name, f.text));
                return;
            case refused:
                throw CLI::ValidationError(name, f.text);
        }
    }

    // Of llama.cpp's ways to look up all are the one that there is here.
    static std::string lookup_type(const std::string& name, const std::string& given) {
        if (given == "none") return "off";
        if (given.starts_with("ngram")) return "lookup";
        throw CLI::ValidationError(
            name, given + ": expected none or ngram-simple; --draft-model drafts by a model");
    }

    // {"method": "ngram", "num_speculative_tokens": 5, "prompt_lookup_min": 2}, or {"model": "..."}
    static void add_vllm_drafts(const std::string& name, const std::string& given, Translation& out) {
        Json json;
        try {
            json = parse_json(given, name);
        } catch (const Error& e) {
            throw CLI::ValidationError(name, e.what());
        }
        if (!json.is_object()) throw CLI::ValidationError(name, "expected a JSON object");
        const std::string method =
            json.contains("method") && json["method"].is_string() ? json["method"] : "";
        const bool looks_up = method == "ngram" || json.value("model", Json()) == "ngram" ||
                              json.value("model", Json()) == "[ngram]";
        if (!method.empty() && method != "ngram" && method != "draft_model")
            throw CLI::ValidationError(name, method + ": smelt drafts by ngram or by a draft model");
        if (looks_up) out.arguments.push_back("--speculate=lookup");
        const auto word = [](const Json& v) { return v.is_string() ? v.get<std::string>() : to_string(v); };
        for (const auto& [key, v] : json.items()) {
            if (key == "model" && !looks_up) out.arguments.push_back("--draft-model=" + word(v));
            if (key == "num_speculative_tokens") out.arguments.push_back("--draft-max=" + word(v));
            if (key == "prompt_lookup_min") out.arguments.push_back("--lookup-min=" + word(v));
            if (!contains("method,model,num_speculative_tokens,prompt_lookup_min", key))
                out.warnings.push_back(fmt::format("{}: {} has no effect", name, key));
        }
    }

    // What is no file would be taken for the text itself.
    static void check_file(const std::string& name, const std::string& path) {
        std::error_code none;
        if (!name.starts_with("--ssl") && !std::filesystem::is_regular_file(path, none))
            throw CLI::ValidationError(name, fmt::format("{}: no such file", path));
    }

    static std::string our_value(const PeerFlag& f, const std::string& given) {
        if ((contains(f.names, "--hf-repo") || contains(f.names, "--hf-repo-draft")) &&
            !given.starts_with("hf:"))
            return "hf:" + given;
        if (contains(f.names, "--kv-cache-dtype")) {
            if (given == "fp8_e4m3") return "fp8";
            if (given == "bfloat16") return "bf16";
        }
        return given;
    }

    const CLI::App &smelt_, &verb_;
    const std::vector<std::string>& in_;
    size_t at_;
    std::optional<std::string> k_, v_, rope_, scale_, original_;
};

}  // namespace

std::span<const PeerFlag> peer_flags() {
    return table;
}

Translation translate_peer_flags(const CLI::App& smelt, const std::vector<std::string>& arguments) {
    Translation out;
    for (size_t i = 0; i < arguments.size(); ++i) {
        const std::string& word = arguments[i];
        out.arguments.push_back(word);
        if (word.starts_with('-')) {
            if (smelt.get_option_no_throw(word) == nullptr) refuse_option(smelt, nullptr, word, {});
            continue;
        }
        const auto verbs = smelt.get_subcommands([&](const CLI::App* v) { return v->check_name(word); });
        if (verbs.empty()) refuse_verb(smelt, word);
        out.verb = verbs.front()->get_name();
        Translator(smelt, *verbs.front(), arguments, i + 1).run(out);
        break;
    }
    return out;
}

}  // namespace smelt
