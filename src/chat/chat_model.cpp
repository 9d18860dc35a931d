// Opening: file, vocabulary, template, device, weights, KV cache, engine. Then prompts and generations.
#include "chat/chat_model.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "base/truncation.h"
#include "base/units.h"
#include "chat/draft_file.h"
#include "chat/template_forms.h"
#include "chat/untrusted.h"
#include "model/rope.h"
#include "text/vocabulary.h"

namespace smelt {

namespace {

// Where a model has no template but ChatML's tokens, as several GGUF files.
constexpr std::string_view chatml_template =
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

// Turns joined by the end mark, as DialoGPT was trained and transformers took for granted in GPT-2.
constexpr std::string_view gpt2_template = "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}";

// Beside the default one some models have another for conversations with tools.
std::optional<ChatTemplate> load_tool_template(const ModelFile& file, const std::string& override) {
    if (!override.empty()) return std::nullopt;
    const std::string* source = file.metadata.get_string("tokenizer.chat_template.tool_use");
    if (source == nullptr) return std::nullopt;
    return ChatTemplate(*source);
}

std::optional<ChatTemplate> load_template(const ModelFile& file, const Tokenizer& tokenizer,
                                          const std::string& override) {
    if (!override.empty()) return ChatTemplate(override);
    if (const std::string* source = file.metadata.get_string("tokenizer.chat_template"))
        return ChatTemplate(*source);
    if (tokenizer.find("<|im_start|>") >= 0 && tokenizer.find("<|im_end|>") >= 0)
        return ChatTemplate(chatml_template);
    const std::string* architecture = file.metadata.get_string("general.architecture");
    if (architecture != nullptr && *architecture == "gpt2") return ChatTemplate(gpt2_template);
    return std::nullopt;
}

SamplingParams read_file_sampling(const Metadata& m) {
    const auto real = [&](const char* key, float fallback) {
        return static_cast<float>(m.get_double(key).value_or(static_cast<double>(fallback)));
    };
    const bool any = m.find("generation.temperature") != nullptr || m.find("generation.top_p") != nullptr ||
                     m.find("generation.top_k") != nullptr;
    // A file may say no more than that.
    if (!any && m.get_bool("generation.do_sample") == false) return {.temperature = 0};
    if (!any) return {.temperature = 0.7f, .top_p = 0.95f, .min_p = 0.05f};
    SamplingParams s;
    s.temperature = real("generation.temperature", 1);
    s.top_k = static_cast<int>(std::clamp<int64_t>(m.get_int("generation.top_k").value_or(0), 0, 1 << 24));
    s.top_p = real("generation.top_p", 1);
    s.min_p = real("generation.min_p", 0);
    s.repetition_penalty = real("generation.repetition_penalty", 1);
    if (m.get_bool("generation.do_sample") == false) s.temperature = 0;
    return s;
}

SamplingParams read_sampling(const Metadata& m, const SamplingChanges& changes) {
    SamplingParams s = read_file_sampling(m);
    changes.apply(s);
    return s;
}

// gpt-oss's format is made of control tokens; everything else is told by its text.
AnswerFormat format_of(const Tokenizer& tokenizer) {
    for (const char* mark : {"<|start|>", "<|channel|>", "<|message|>"}) {
        if (tokenizer.find(mark) < 0) return AnswerFormat::marks;
    }
    return AnswerFormat::harmony;
}

// Ends of a turn: what generation_config.json names, the vocabulary's end token, and the turn marks that the
// common chat formats use, because many files name only one of them.
std::vector<int32_t> read_stop_ids(const Metadata& m, const Tokenizer& tokenizer, AnswerFormat format) {
    std::vector<int32_t> ids;
    const auto add = [&](int64_t id) {
        if (id >= 0 && id < tokenizer.n_tokens() && std::ranges::find(ids, id) == ids.end()) {
            ids.push_back(static_cast<int32_t>(id));
        }
    };
    if (const auto* eos = m.get_ints("generation.eos_token_ids")) std::ranges::for_each(*eos, add);
    add(tokenizer.eos());
    for (const char* mark :
         {"<|im_end|>", "<|eot_id|>", "<|end_of_text|>", "<|endoftext|>", "<|eom_id|>", "<|return|>",
          "<|call|>", "<|user|>", "<|observation|>", "<|end|>", "<end_of_turn>"}) {
        // Harmony's <|end|> closes a message, with the next one to come.
        if (format == AnswerFormat::harmony && std::string_view(mark) == "<|end|>") continue;
        if (const int32_t id = tokenizer.find(mark); id >= 0 && tokenizer.is_special(id)) add(id);
    }
    return ids;
}

// Blocks of windowed and of recurrent layers, which do not grow with the context.
int window_parts(const ModelConfig& config, const SchedulerOptions& o, const Backend& backend) {
    if (config.window == 0) return 0;
    return window_parts_for(config.window, default_block_len, o.max_seqs,
                            max_steps_of(backend) * o.max_batch_tokens);
}

// What grammars see of a vocabulary.
std::shared_ptr<const TokenTrie> make_trie(const Tokenizer& tokenizer, const std::vector<int32_t>& stop_ids) {
    std::vector<TokenText> tokens(static_cast<size_t>(tokenizer.n_tokens()));
    for (int32_t id = 0; id < tokenizer.n_tokens(); ++id) {
        if (std::ranges::find(stop_ids, id) != stop_ids.end()) continue;
        const std::string_view bytes = tokenizer.token_bytes(id);
        // Marks that answers are read by may stand in the text, whatever the vocabulary calls them.
        tokens[static_cast<size_t>(id)] = {bytes, tokenizer.is_special(id) && !is_text_mark(bytes)};
    }
    return make_token_trie(tokens);
}

// A draft model has its cache in the formats of the large one, where it can.
KvFormats draft_kv(const ModelConfig& draft, const ChatModelOptions& options) {
    try {
        check_kv_formats(draft, options.kv);
        return options.kv;
    } catch (const Error&) {
        return {};
    }
}

// Tokens of context for which the KV cache fits into half of what memory is left once the weights are in.
int choose_context(const ModelConfig& config, const ModelConfig* draft, const ChatModelOptions& options,
                   const Backend& backend, size_t weight_bytes) {
    if (options.n_ctx > config.n_ctx_train) {
        spdlog::warn(
            "context: {} tokens, more than the {} that the model was trained with: expect worse answers "
            "beyond "
            "them, or stretch its positions with RoPE scaling",
            options.n_ctx, config.n_ctx_train);
    }
    if (options.n_ctx > 0) return options.n_ctx;
    const KvBlockBytes bytes = kv_block_bytes(config, default_block_len, options.kv);
    const size_t available = static_cast<size_t>(backend.available_memory());
    size_t budget = (available > weight_bytes ? available - weight_bytes : 0) / 2;
    size_t per_block = bytes.all();
    const auto n_parts = static_cast<size_t>(window_parts(config, options.engine.scheduler, backend));
    if (const size_t windows = n_parts * bytes.windowed; n_parts > 0 && windows < budget) {
        budget -= windows;
        per_block = std::max<size_t>(bytes.full, 1);
    }
    if (draft != nullptr)
        per_block += kv_block_bytes(*draft, default_block_len, draft_kv(*draft, options)).all();
    const auto fits = static_cast<int64_t>(budget / per_block) * default_block_len;
    // An unusably small context is refused by the allocation, with its numbers, rather than chosen here.
    const int64_t n = std::min(config.n_ctx_train, std::max<int64_t>(fits, 512));
    if (n < config.n_ctx_train) {
        spdlog::info("context: {} of {} tokens, as many as fit into memory ({} of KV cache a token)", n,
                     config.n_ctx_train, bytes_text(per_block / default_block_len));
    }
    return static_cast<int>(n);
}

// What a step computed from a file that lost pages is worth nothing.
class IntactFileRunner final : public ModelRunner {
 public:
    IntactFileRunner(std::unique_ptr<ModelRunner> runner, const ModelFile& file)
        : runner_(std::move(runner)), file_(file) {}

    const RunnerShape& shape() const override { return runner_->shape(); }
    void launch(const Batch& batch) override { runner_->launch(batch); }
    StepResult collect() override {
        const StepResult result = runner_->collect();
        for (const auto& mapping : file_.mappings) {
            if (!is_damaged(*mapping)) continue;
            throw Error("{}: was cut short while it was in use", mapping->path().string());
        }
        return result;
    }
    void set_adapter(int number, const Adapter* adapter) override { runner_->set_adapter(number, adapter); }
    bool takes_pictures() const override { return runner_->takes_pictures(); }
    std::shared_ptr<const Features> features(const Patches& patches) override {
        return runner_->features(patches);
    }
    void copy_blocks(std::span<const BlockCopy> copies) override { runner_->copy_blocks(copies); }
    KvBlockBytes block_bytes() const override { return runner_->block_bytes(); }
    void read_block(int32_t block, int32_t part, std::span<std::byte> bytes) override {
        runner_->read_block(block, part, bytes);
    }
    void write_block(int32_t block, int32_t part, std::span<const std::byte> bytes) override {
        runner_->write_block(block, part, bytes);
    }

 private:
    std::unique_ptr<ModelRunner> runner_;
    const ModelFile& file_;
};

// Puts a character behind the last message that no message has, and returns it: where it comes out of the
// template, the answer begins.
std::string mark_end(Json& messages) {
    const std::string all = to_string(messages);
    std::string mark;
    // Unicode's characters for internal use; Untrusted takes the first that is free, this the last.
    for (char c = '\xaf'; c >= '\x90'; --c) {
        mark = {'\xef', '\xb7', c};
        if (all.find(mark) == std::string::npos) break;
    }
    Json& content = messages.back()["content"];
    content = (content.is_string() ? content.get<std::string>() : "") + mark;
    return mark;
}

void cut_at_mark(Prompt& prompt, const std::string& mark) {
    const size_t end = prompt.text.rfind(mark);
    if (end == std::string::npos) {
        throw TemplateError("TemplateError",
                            "it does not print the last message, so no answer can go on from it", 0);
    }
    prompt.text.resize(end);
    prompt.continues = true;
}

// What K and V depend on, but for the token ids. A file that is written anew has another time.
std::string describe_owner(const ModelFile& file, const ChatModelOptions& options, const Backend& backend) {
    std::string text = fmt::format("{} {} {} {} {}", options.engine.prefixes.owner, backend.name(),
                                   backend.description(), to_string(options.kv), options.rope_scaling);
    auto mappings = file.mappings;
    if (file.vision != nullptr)
        mappings.insert(mappings.end(), file.vision->mappings.begin(), file.vision->mappings.end());
    for (const auto& mapping : mappings) {
        const auto& path = mapping->path();
        text += fmt::format("\n{} {} {}", path.filename().string(), mapping->bytes().size(),
                            std::filesystem::last_write_time(path).time_since_epoch().count());
    }
    return text;
}

}  // namespace

std::unique_ptr<ChatModel> ChatModel::open(const std::filesystem::path& path,
                                           const ChatModelOptions& options) {
    return open(open_model(path), options);
}

std::unique_ptr<ChatModel> ChatModel::open(std::shared_ptr<const ModelFile> file,
                                           const ChatModelOptions& options) {
    return std::unique_ptr<ChatModel>(new ChatModel(
        with_mmproj(override_rope_scaling(std::move(file), options.rope_scaling), options.mmproj), options));
}

ChatModel::ChatModel(std::shared_ptr<const ModelFile> file, const ChatModelOptions& options)
    : file_(std::move(file)),
      tokenizer_(load_tokenizer(*file_)),
      template_(load_template(*file_, tokenizer_, options.chat_template)),
      tool_template_(load_tool_template(*file_, options.chat_template)),
      format_(format_of(tokenizer_)),
      call_style_(call_style_of(tool_template_ ? tool_template_->source()
                                : template_    ? template_->source()
                                               : "",
                                format_)),
      default_sampling_(read_sampling(file_->metadata, options.sampling)),
      default_system_(options.system),
      default_kwargs_(options.template_kwargs),
      pooling_(options.pooling),
      stop_ids_(read_stop_ids(file_->metadata, tokenizer_, format_)),
      grammars_([this] { return make_trie(tokenizer_, stop_ids_); }),
      backend_(make_backend(options.device, options.backend)),
      model_(load_model(file_, *backend_)) {
    open_draft_model(options);
    const int n_ctx = choose_context(model_->config(), draft_model_ ? &draft_model_->config() : nullptr,
                                     options, *backend_, weight_bytes());
    const int64_t n_blocks =
        (std::max<int64_t>(options.kv_tokens, n_ctx) + default_block_len - 1) / default_block_len;
    auto device = std::make_unique<DeviceRunner>(
        *model_, *backend_,
        DeviceRunnerOptions{
            .n_ctx = n_ctx,
            .n_blocks = static_cast<int>(std::min<int64_t>(n_blocks, 1 << 24)),
            .kv = options.kv,
            .n_window_parts = window_parts(model_->config(), options.engine.scheduler, *backend_),
            .n_adapters = options.max_adapters,
            .adapter_rank = highest_rank(options.adapters, *file_, options.max_adapter_rank)});
    takes_adapters_ = options.backend.tensor_parallel < 2 && backend_->name() != "map";
    runner_ = device.get();
    std::unique_ptr<ModelRunner> runner = std::make_unique<IntactFileRunner>(std::move(device), *file_);
    if (options.wrap_runner) runner = options.wrap_runner(std::move(runner));
    if (const VisionTower* vision = model_->vision()) {
        image_token_ = vision->config().image_token >= 0 ? vision->config().image_token
                                                         : tokenizer_.find("<|image_pad|>");
        patch_rules_ = vision->config().patches;
        const int64_t side = int64_t{patch_rules_.patch_size} * patch_rules_.merge;
        const int64_t n_tokens =
            options.image_max_tokens > 0 ? options.image_max_tokens : std::clamp(n_ctx / 2, 1, 1024);
        patch_rules_.max_pixels = std::min(patch_rules_.max_pixels, n_tokens * side * side);
        patch_rules_.min_pixels = std::min(patch_rules_.min_pixels, patch_rules_.max_pixels);
    }
    fetch_picture_ = options.fetch_picture;
    EngineOptions engine = options.engine;
    engine.prefixes.owner = describe_owner(*file_, options, *backend_);
    const int draft_blocks = static_cast<int>(std::min<int64_t>(n_blocks, 1 << 24));
    engine_ =
        std::make_unique<Engine>(std::move(runner), engine, make_draft_runner(options, n_ctx, draft_blocks));
}

void ChatModel::open_draft_model(const ChatModelOptions& options) {
    if (model_->config().recurrent && (!options.draft_model.empty() || options.engine.drafts.lookup)) {
        throw Error(
            "{}: the layers of {} carry a state that a wrong guess would change, so tokens cannot be drafted",
            file_->path.string(), model_->config().architecture);
    }
    if (options.draft_model.empty()) return;
    OpenedDraft draft =
        smelt::open_draft_model(options.draft_model, &tokenizer_, model_->config(), *backend_);
    draft_file_ = std::move(draft.file);
    draft_model_ = std::move(draft.model);
}

// On the same device, with a cache for as many tokens.
std::unique_ptr<ModelRunner> ChatModel::make_draft_runner(const ChatModelOptions& options, int n_ctx,
                                                          int n_blocks) {
    if (!draft_model_) return nullptr;
    const ModelConfig& config = draft_model_->config();
    auto device = std::make_unique<DeviceRunner>(
        *draft_model_, *backend_,
        DeviceRunnerOptions{.n_ctx = static_cast<int>(std::min<int64_t>(n_ctx, config.n_ctx_train)),
                            .n_blocks = n_blocks,
                            .kv = draft_kv(config, options),
                            .n_window_parts = window_parts(config, options.engine.scheduler, *backend_)});
    draft_kv_bytes_ = device->kv_bytes();
    return std::make_unique<IntactFileRunner>(std::move(device), *draft_file_);
}

size_t ChatModel::weight_bytes() const {
    return model_->weight_bytes() + (draft_model_ ? draft_model_->weight_bytes() : 0);
}

ChatModel::~ChatModel() = default;

Prompt ChatModel::make_prompt(const Json& messages, const PromptOptions& options) const {
    if (!template_) throw Error("{}: the model has no chat template", file_->path.string());
    std::optional<TemplateError> refused;
    for (const TemplateForm& form : template_forms(messages)) {
        try {
            Prompt prompt = render_prompt(in_form(messages, form), options);
            place_pictures(prompt, options);
            return prompt;
        } catch (const TemplateError& e) {
            if (e.type() == "BudgetError") throw;
            if (!refused) refused = e;
        }
    }
    throw TemplateError(*refused);
}

Prompt ChatModel::render_prompt(Json messages, const PromptOptions& options) const {
    const bool has_tools = options.tools.is_array() && !options.tools.empty();
    const ChatTemplate& chosen = has_tools && tool_template_ ? *tool_template_ : *template_;
    name_reasoning(messages, chosen.source());
    const auto token_text = [&](int32_t id) {
        return id < 0 ? std::string() : std::string(tokenizer_.token_bytes(id));
    };
    Json said = {{"messages", messages}};
    const std::string end_mark = options.continues ? mark_end(said["messages"]) : "";
    // transformers gives these two in every case, and templates ask whether they are none.
    said["tools"] = has_tools ? options.tools : Json();
    said["documents"] = nullptr;
    if (default_kwargs_.is_object()) said.update(default_kwargs_);
    if (options.thinking) said["enable_thinking"] = *options.thinking;
    if (options.template_kwargs.is_object()) said.update(options.template_kwargs);
    const Untrusted untrusted(tokenizer_, said);
    Json variables = untrusted.broken(said);
    const auto set_once = [&](const char* name, Json value) {
        if (!variables.contains(name)) variables[name] = std::move(value);
    };
    set_once("add_generation_prompt", options.add_generation_prompt);
    set_once("bos_token", token_text(tokenizer_.bos()));
    set_once("eos_token", token_text(tokenizer_.eos()));
    // As transformers does: undefined where there is none.
    const Vocabulary& vocabulary = tokenizer_.vocabulary();
    if (vocabulary.pad >= 0) set_once("pad_token", token_text(vocabulary.pad));
    if (vocabulary.unk >= 0) set_once("unk_token", token_text(vocabulary.unk));

    Prompt prompt;
    prompt.text = chosen.render(variables);
    if (options.continues) cut_at_mark(prompt, end_mark);
    const std::vector<size_t> plain_at = untrusted.take_marks(prompt.text);
    prompt.starts_final = options.continues && format_ == AnswerFormat::harmony;
    // What the template does not know: the answer's channel chosen for the model, it cannot think first.
    if (format_ == AnswerFormat::harmony && options.thinking == false &&
        prompt.text.ends_with("<|start|>assistant")) {
        prompt.text += "<|channel|>final<|message|>";
        prompt.starts_final = true;
    }
    prompt.ids = tokenizer_.encode(prompt.text, {.plain_at = plain_at});
    // The template wrote the beginning of the text where the model wants one; some leave it to the tokenizer.
    if (tokenizer_.vocabulary().add_bos && tokenizer_.bos() >= 0 &&
        (prompt.ids.empty() || prompt.ids.front() != tokenizer_.bos())) {
        prompt.ids.insert(prompt.ids.begin(), tokenizer_.bos());
    }
    const size_t open = prompt.text.rfind(think_open), close = prompt.text.rfind(think_close);
    prompt.starts_thinking =
        options.add_generation_prompt && open != std::string::npos &&
        (close == std::string::npos || close < open) &&
        prompt.text.find_first_not_of("\r\n \t", open + think_open.size()) == std::string::npos;
    return prompt;
}

Prompt ChatModel::make_text_prompt(std::string text) const {
    Prompt p{.text = std::move(text), .ids = {}};
    p.ids = tokenizer_.encode(p.text, {.add_special = true});
    if (p.ids.empty() && tokenizer_.bos() >= 0) p.ids.push_back(tokenizer_.bos());
    return p;
}

std::unique_ptr<Generation> ChatModel::generate(const Prompt& prompt, const GenerateOptions& options) {
    return std::unique_ptr<Generation>(new Generation(*this, prompt, options));
}

Pooling ChatModel::default_pooling() const {
    constexpr int64_t last = 3;  // GGUF's number
    if (pooling_) return *pooling_;
    const auto type = file_->metadata.get_int(model_->config().architecture + ".pooling_type");
    return type == last ? Pooling::last : Pooling::mean;
}

AnswerForm ChatModel::answer_form(const Prompt& prompt) const {
    const size_t end = prompt.text.find_last_not_of(blank_chars);
    const bool has_thought =
        end != std::string::npos && std::string_view(prompt.text).substr(0, end + 1).ends_with(think_close);
    return {.style = call_style_,
            .is_harmony = format_ == AnswerFormat::harmony,
            .starts_thinking = prompt.starts_thinking,
            .starts_final = prompt.starts_final,
            .may_think = tokenizer_.find(think_open) >= 0 && !prompt.starts_thinking && !has_thought &&
                         !prompt.continues};
}

ThinkingLimit ChatModel::thinking_limit(const Prompt& prompt, int n_tokens) const {
    ThinkingLimit limit{.n_tokens = n_tokens};
    if (format_ == AnswerFormat::harmony) {
        if (!prompt.starts_final) limit.open = tokenizer_.encode("<|channel|>analysis<|message|>");
        limit.close = tokenizer_.find("<|end|>");
    } else {
        limit.is_open = prompt.starts_thinking;
        if (const int32_t open = tokenizer_.find(think_open); open >= 0) limit.open = {open};
        limit.close = tokenizer_.find(think_close);
    }
    return limit.close < 0 ? ThinkingLimit{} : limit;
}

Request ChatModel::make_request(const Prompt& prompt, const GenerateOptions& options) const {
    Request request = options;
    request.tokens = prompt.ids;
    request.pictures = prompt.pictures;
    name_places(request.tokens, request.pictures);
    request.stop_ids.insert(request.stop_ids.begin(), stop_ids_.begin(), stop_ids_.end());
    request.thinking = thinking_limit(prompt, options.thinking_budget);
    return request;
}

std::variant<std::shared_ptr<TokenGrammar>, GrammarError> ChatModel::compile(
    const GrammarSpec& spec, const GrammarOptions& options) const {
    return grammars_.get(spec, options);
}

std::vector<int32_t> ChatModel::tokens_with(const std::vector<std::string>& texts) const {
    std::vector<int32_t> ids;
    for (int32_t id = 0; id < tokenizer_.n_tokens(); ++id) {
        const std::string_view bytes = tokenizer_.token_bytes(id);
        const auto stands_in = [&](const std::string& t) { return bytes.find(t) != std::string_view::npos; };
        if (std::ranges::any_of(texts, stands_in)) ids.push_back(id);
    }
    return ids;
}

TextStream ChatModel::make_text_stream(const Prompt& prompt, const GenerateOptions& options) const {
    return {tokenizer_,
            {.stop = options.stop,
             .goes_on = prompt.continues || !options.split_thinking,
             .parser = {.format = options.split_thinking ? format_ : AnswerFormat::plain,
                        .starts_thinking = prompt.starts_thinking,
                        .starts_final = prompt.starts_final,
                        .tools = options.tools,
                        .calls = call_style_,
                        .calls_are_held = options.grammar != nullptr,
                        .single_call = options.single_call}}};
}

std::vector<float> normalised(std::vector<float> v, size_t n_kept) {
    v.resize(std::min(v.size(), n_kept));
    double squares = 0;
    for (const float x : v) squares += static_cast<double>(x) * static_cast<double>(x);
    const double length = std::sqrt(squares);
    if (length == 0) return v;
    for (float& x : v) x = static_cast<float>(static_cast<double>(x) / length);
    return v;
}

}  // namespace smelt
