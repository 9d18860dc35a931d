// Loading, unloading, and the choice. Routing looks at measured numbers only: never at a model's name.
#include "server/models/model_set.h"

#include <algorithm>

#include "base/cpu_info.h"
#include "base/log.h"
#include "base/units.h"
#include "server/api_error.h"

namespace smelt {

namespace {

constexpr int probe_tokens = 16;
constexpr int max_replicas = 64;  // bits of a word

// Decode rate of one answer alone, so that the first routed request finds a number.
double measure_speed(ChatModel& chat) {
    const int bos = std::max(chat.tokenizer().bos(), 0);
    Prompt prompt{.text = "", .ids = {bos}};
    GenerateOptions options;
    options.max_tokens = probe_tokens;
    options.split_thinking = false;
    options.ignore_eos = true;
    options.sampling.temperature = 0;
    const auto generation = chat.generate(prompt, options);
    while (generation->next()) {
    }
    const FinishEvent& f = generation->finish();
    return f.decode > 0 ? (f.n_generated - 1) / f.decode : 0;
}

bool has_name(const ServedModel& m, const std::string& name) {
    return m.name == name || std::ranges::find(m.spec.aliases, name) != m.spec.aliases.end();
}

bool may_use(const ServedModel& m, const std::string& key) {
    const auto& keys = m.spec.keys;
    return keys.empty() || std::ranges::find(keys, key) != keys.end();
}

}  // namespace

std::shared_ptr<LoadedModel> ServedModel::loaded() const {
    const std::lock_guard lock(mutex_);
    return loaded_;
}

void ServedModel::set_loaded(std::shared_ptr<LoadedModel> m) {
    // The end of the one before, which may take a moment, is outside of the lock.
    const std::lock_guard lock(mutex_);
    loaded_.swap(m);
}

std::vector<AdapterSpec> ServedModel::adapters() const {
    const std::lock_guard lock(mutex_);
    return adapters_;
}

void ServedModel::set_adapters(std::vector<AdapterSpec> adapters) {
    const std::lock_guard lock(mutex_);
    adapters_ = std::move(adapters);
}

bool ServedModel::has_adapter(const std::string& adapter) const {
    const std::lock_guard lock(mutex_);
    return std::ranges::find(adapters_, adapter, &AdapterSpec::name) != adapters_.end();
}

// A request holds its model and is held by the engine until its last event was read. Where nobody reads any
// more, that would be for ever.
ModelSet::~ModelSet() {
    for (const auto& opened : opened_) {
        if (const auto loaded = opened.lock()) loaded->stop();
    }
}

size_t ModelSet::used_bytes() const {
    size_t n = 0;
    for (const auto& m : all()) {
        if (const auto loaded = m->loaded()) n += loaded->weight_bytes() + loaded->kv_bytes();
    }
    return n;
}

void ModelSet::check_budget(const std::filesystem::path& path, size_t wanted) const {
    const size_t used = used_bytes();
    const size_t limit = options_.memory_budget > 0
                             ? options_.memory_budget
                             : used + static_cast<size_t>(read_memory_info().available);
    if (used + wanted > limit) {
        throw Error("{}: {} of weights and KV cache do not fit: {} of {} are in use", path.string(),
                    bytes_text(wanted), bytes_text(used), bytes_text(limit));
    }
}

std::shared_ptr<LoadedModel> ModelSet::open(ServedModel& m) {
    const ModelSpec& spec = m.spec;
    check_budget(spec.path, open_model(spec.path, Weights::listed)->n_bytes());
    const auto file = open_model(spec.path);
    std::vector<std::unique_ptr<Replica>> replicas;
    for (int i = 0; i < spec.replicas; ++i) {
        auto replica = std::make_unique<Replica>();
        ChatModelOptions options = spec.open;
        options.adapters = m.adapters();
        if (auto& kept = options.engine.prefixes.path; !kept.empty()) kept += fmt::format(".{}.kv", i);
        replica->chat = ChatModel::open(file, options);
        replicas.push_back(std::move(replica));
        // Memory that is promised is not yet taken, so a budget is counted here.
        const ChatModel& chat = *replicas.front()->chat;
        const size_t kv = replicas.size() * chat.kv_bytes();
        if (options_.memory_budget > 0) check_budget(spec.path, chat.weight_bytes() + kv);
    }
    auto loaded = std::make_shared<LoadedModel>(std::move(replicas));
    for (const AdapterSpec& adapter : m.adapters()) loaded->adapters().load(adapter);
    {
        const std::lock_guard lock(mutex_);
        std::erase_if(opened_, [](const auto& gone) { return gone.expired(); });
        opened_.push_back(loaded);
    }
    m.tokens_per_second = measure_speed(loaded->chat());
    m.step_bytes = static_cast<int64_t>(loaded->chat().model().step_bytes());
    m.weight_bytes = static_cast<int64_t>(loaded->weight_bytes());
    m.takes_pictures = loaded->chat().takes_pictures();
    m.load_time = std::time(nullptr);
    m.touch();
    spdlog::info("{}: {}, context {} tokens, {:.0f} tok/s alone", m.name, spec.path.string(),
                 loaded->chat().n_ctx(), m.tokens_per_second.load());
    return loaded;
}

std::shared_ptr<ServedModel> ModelSet::load(const std::string& name, const std::filesystem::path& path) {
    return load(ModelSpec{.name = name, .path = path, .open = options_.open});
}

std::shared_ptr<ServedModel> ModelSet::load(ModelSpec spec) {
    const std::lock_guard one_at_a_time(loading_);
    if (spec.name.empty() || spec.name == "auto") {
        throw Error("\"{}\" cannot be the name of a model", spec.name);
    }
    if (spec.replicas < 1 || spec.replicas > max_replicas) {
        throw Error("{}: expected 1 to {} replicas, found {}", spec.name, max_replicas, spec.replicas);
    }
    if (find(spec.name)) throw Error("a model with the name {} is served already", spec.name);
    for (const std::string& alias : spec.aliases) {
        if (alias.empty() || alias == "auto") throw Error("\"{}\" cannot be the name of a model", alias);
        if (find(alias)) throw Error("a model with the name {} is served already", alias);
    }
    auto model = std::make_shared<ServedModel>(std::move(spec));
    model->set_loaded(open(*model));
    const std::lock_guard lock(mutex_);
    models_.push_back(model);
    return model;
}

bool ModelSet::unload(const std::string& name) {
    std::shared_ptr<ServedModel> gone;  // its end, which may take a moment, outside of the lock
    const std::lock_guard lock(mutex_);
    const auto it = std::ranges::find_if(models_, [&](const auto& m) { return has_name(*m, name); });
    if (it == models_.end()) return false;
    gone = *it;
    models_.erase(it);
    return true;
}

bool ModelSet::rest(const std::string& name) {
    const auto model = find(name);
    if (model == nullptr) return false;
    model->set_loaded(nullptr);
    return true;
}

void ModelSet::unload_idle() {
    using Clock = std::chrono::steady_clock;
    for (const auto& m : all()) {
        if (m->spec.idle_unload.count() == 0 || m->outstanding > 0 || m->loaded() == nullptr) continue;
        const Clock::duration idle = Clock::now().time_since_epoch() - Clock::duration(m->last_used.load());
        if (idle < m->spec.idle_unload) continue;
        spdlog::info("{}: unloaded, nobody used it for {} s", m->name, m->spec.idle_unload.count());
        m->set_loaded(nullptr);
    }
}

// The next request after an idle time waits for the file; it is in the page cache as a rule.
std::shared_ptr<LoadedModel> ModelSet::wake(ServedModel& m) {
    const auto busy = [] {
        return RequestError({.status = 503,
                             .code = "model_loading",
                             .message = "the model is being loaded",
                             .retry_after = 1});
    };
    struct Waiting {
        std::atomic<int>& n;
        ~Waiting() { --n; }
    };
    if (++n_waiting_ > options_.max_waiting) {
        --n_waiting_;
        throw busy();
    }
    const Waiting waiting{n_waiting_};
    const std::lock_guard one_at_a_time(loading_);
    if (auto loaded = m.loaded()) return loaded;
    try {
        auto loaded = open(m);
        m.set_loaded(loaded);
        return loaded;
    } catch (const Error& e) {
        spdlog::error("{} cannot be loaded again: {}", m.name, e.what());
        throw RequestError({.status = 503,
                            .code = "model_unavailable",
                            .message = "the model cannot be loaded now",
                            .retry_after = 10});
    }
}

std::shared_ptr<ServedModel> ModelSet::find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto it = std::ranges::find_if(models_, [&](const auto& m) { return has_name(*m, name); });
    return it == models_.end() ? nullptr : *it;
}

std::vector<std::shared_ptr<ServedModel>> ModelSet::all() const {
    const std::lock_guard lock(mutex_);
    return models_;
}

ModelSet::Named ModelSet::find_named(const std::string& name) const {
    if (auto model = find(name)) return {model};
    for (const auto& m : all()) {
        if (m->has_adapter(name)) return {m, name};
    }
    const size_t colon = name.rfind(':');
    if (colon == std::string::npos) return {};
    auto base = find(name.substr(0, colon));
    const std::string adapter = name.substr(colon + 1);
    return base != nullptr && base->has_adapter(adapter) ? Named{base, adapter} : Named{};
}

void ModelSet::load_adapter(ServedModel& m, const AdapterSpec& adapter) {
    const std::lock_guard one_at_a_time(loading_);
    if (adapter.name.empty() || adapter.name == "auto" || find_named(adapter.name).model != nullptr)
        throw Error("\"{}\" cannot be the name of an adapter: expected one that is not in use", adapter.name);
    std::vector<AdapterSpec> adapters = m.adapters();
    if (const auto loaded = m.loaded()) {
        loaded->adapters().load(adapter);
    } else {
        // Of a model that rests: whether it fits is known now all the same.
        (void)read_adapter(adapter.path, *open_model(m.spec.path, Weights::listed));
    }
    adapters.push_back(adapter);
    m.set_adapters(std::move(adapters));
}

bool ModelSet::unload_adapter(ServedModel& m, const std::string& adapter) {
    const std::lock_guard one_at_a_time(loading_);
    std::vector<AdapterSpec> adapters = m.adapters();
    if (std::erase_if(adapters, [&](const AdapterSpec& a) { return a.name == adapter; }) == 0) return false;
    m.set_adapters(std::move(adapters));
    if (const auto loaded = m.loaded()) loaded->adapters().unload(adapter);
    return true;
}

std::shared_ptr<ServedModel> ModelSet::find_or_throw(const std::string& name) const {
    if (auto named = find(name)) return named;
    const auto models = all();
    std::vector<std::string> known;
    for (const auto& m : models) known.push_back(m->name);
    for (const auto& m : models) {
        for (const AdapterSpec& a : m->adapters()) known.push_back(a.name);
    }
    std::string names;
    for (size_t i = 0; i < std::min<size_t>(known.size(), 5); ++i) names += (i > 0 ? ", " : "") + known[i];
    throw RequestError(
        {.status = 404,
         .code = "model_not_found",
         .message = fmt::format("the model \"{}\" does not exist; there are: {}", name.substr(0, 100), names),
         .param = "model"});
}

const char* ModelSet::state(const ServedModel& m) const {
    const auto loaded = m.loaded();
    if (loaded == nullptr) return "idle";
    if (loaded->has_failed()) return "failed";
    return loaded->stats().step_seconds > 2 * options_.step_timeout ? "hung" : "ok";
}

ModelSet::Pick ModelSet::pick(const ModelChoice& choice) const {
    const bool is_open = choice.name.empty() || choice.name == "auto";
    const Named asked = is_open ? Named{} : find_named(choice.name);
    if (!is_open && !(options_.any_name && asked.model == nullptr)) {
        auto named = asked.model != nullptr ? asked.model : find_or_throw(choice.name);
        if (may_use(*named, choice.key)) return {named, "asked for", asked.adapter};
        throw RequestError({.status = 403,
                            .code = "model_not_allowed",
                            .message = "this API key may not use this model",
                            .param = "model"});
    }
    auto models = all();
    std::erase_if(models, [&](const auto& m) { return !may_use(*m, choice.key); });
    if (models.empty()) {
        throw RequestError(
            {.status = 503, .code = "model_loading", .message = "no model is loaded", .retry_after = 5});
    }
    // One that has failed is chosen only where there is no other, to say so.
    if (std::ranges::any_of(models, [&](const auto& m) { return *state(*m) != 'f'; })) {
        std::erase_if(models, [&](const auto& m) { return *state(*m) == 'f'; });
    }
    const auto least = [&](auto cost) { return *std::ranges::min_element(models, {}, cost); };
    const auto prefer = [&](auto has) {
        if (std::ranges::any_of(models, has)) std::erase_if(models, [&](const auto& m) { return !has(m); });
    };
    if (choice.has_pictures) prefer([](const auto& m) { return m->takes_pictures.load(); });
    if (models.size() == 1) return {models.front(), "the only one"};
    if (choice.priority == "speed") {
        prefer([](const auto& m) { return m->spec.fast; });
        return {least([](const auto& m) { return -m->tokens_per_second.load(); }), "priority speed"};
    }
    if (choice.priority == "quality") {
        prefer([](const auto& m) { return m->spec.best; });
        prefer([&](const auto& m) { return m->name == options_.best; });
        return {least([](const auto& m) { return -m->weight_bytes.load(); }), "priority quality"};
    }
    // Bytes read for a token are what a token costs in time and in energy.
    if (choice.max_tokens > options_.long_answer) {
        return {least([](const auto& m) { return m->step_bytes.load(); }),
                "long answer, fewest bytes a token"};
    }
    const auto wait = [](const auto& m) {
        return (m->outstanding + 1) / std::max(m->tokens_per_second.load(), 1e-3);
    };
    return {least(wait), "least wait"};
}

ModelUse ModelSet::choose(const ModelChoice& choice) {
    const Pick picked = pick(choice);
    ModelUse use{.served = picked.model, .loaded = nullptr, .why = picked.why};
    if (!picked.adapter.empty()) use.adapter = choice.name;
    use.served->touch();
    use.loaded = use.served->loaded();
    if (use.loaded == nullptr) use.loaded = wake(*use.served);
    if (use.loaded->has_failed()) {
        const bool cut = use.loaded->file_is_damaged();
        throw RequestError(
            {.status = 503,
             .code = cut ? "model_unavailable" : "device_lost",
             .message = cut ? "the model's file was changed while it was in use; it must be loaded again"
                            : "the model's device failed; it must be loaded again",
             .retry_after = 60});
    }
    if (picked.adapter.empty()) {
        use.adapters = use.loaded->adapters().usual();
    } else if (const auto adapter = use.loaded->adapters().find(picked.adapter)) {
        use.adapters = {*adapter};
    } else {
        (void)find_or_throw(choice.name);  // it has gone meanwhile
    }
    return use;
}

}  // namespace smelt
