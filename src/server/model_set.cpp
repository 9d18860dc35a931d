// Routing looks at measured numbers only: never at a model's name.
#include "server/model_set.h"

#include <algorithm>

#include "base/cpu_info.h"
#include "base/log.h"
#include "server/api_error.h"

namespace smelt {

namespace {

constexpr int probe_tokens = 16;

// Decode rate of one answer alone, so that the first routed request finds a number.
double measure_speed(ChatModel& chat) {
    const int bos = std::max(chat.tokenizer().bos(), 0);
    Prompt prompt{.text = "", .ids = {bos}};
    GenerateOptions options{.max_tokens = probe_tokens, .split_thinking = false, .ignore_eos = true};
    options.sampling.temperature = 0;
    const auto generation = chat.generate(prompt, options);
    while (generation->next()) {
    }
    const FinishEvent& f = generation->finish();
    return f.decode > 0 ? (f.n_generated - 1) / f.decode : 0;
}

}  // namespace

size_t ServedModel::kv_bytes() const {
    return chat->runner().kv_bytes();
}

void ModelSet::check_budget(const std::filesystem::path& path) const {
    size_t used = 0;
    for (const auto& m : all()) used += m->weight_bytes() + m->kv_bytes();
    const auto file = open_model(path, Weights::listed);
    size_t wanted = 0;
    for (const TensorView& t : file->tensors) wanted += t.n_bytes();
    const size_t limit = options_.memory_budget > 0
                             ? options_.memory_budget
                             : used + static_cast<size_t>(read_memory_info().available);
    if (used + wanted > limit) {
        throw Error("{}: {} bytes of weights do not fit: {} of {} bytes are in use", path.string(), wanted,
                    used, limit);
    }
}

std::shared_ptr<ServedModel> ModelSet::load(const std::string& name, const std::filesystem::path& path) {
    const std::lock_guard one_at_a_time(loading_);
    if (name.empty() || name == "auto") throw Error("\"{}\" cannot be the name of a model", name);
    if (find(name)) throw Error("a model with the name {} is served already", name);
    check_budget(path);
    auto model = std::make_shared<ServedModel>();
    model->name = name;
    model->path = path;
    model->chat = ChatModel::open(path, options_.open);
    model->loaded = std::time(nullptr);
    size_t used = model->weight_bytes() + model->kv_bytes();
    for (const auto& m : all()) used += m->weight_bytes() + m->kv_bytes();
    if (options_.memory_budget > 0 && used > options_.memory_budget) {
        throw Error("{}: weights and KV caches would take {} bytes, the budget is {}", path.string(), used,
                    options_.memory_budget);
    }
    model->tokens_per_second = measure_speed(*model->chat);
    spdlog::info("{}: {}, context {} tokens, {:.0f} tok/s alone", name, path.string(), model->chat->n_ctx(),
                 model->tokens_per_second.load());
    const std::lock_guard lock(mutex_);
    models_.push_back(model);
    return model;
}

bool ModelSet::unload(const std::string& name) {
    std::shared_ptr<ServedModel> gone;  // its end, which may take a moment, outside of the lock
    const std::lock_guard lock(mutex_);
    const auto it = std::ranges::find(models_, name, [](const auto& m) { return m->name; });
    if (it == models_.end()) return false;
    gone = *it;
    models_.erase(it);
    return true;
}

std::shared_ptr<ServedModel> ModelSet::find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    const auto it = std::ranges::find(models_, name, [](const auto& m) { return m->name; });
    return it == models_.end() ? nullptr : *it;
}

std::vector<std::shared_ptr<ServedModel>> ModelSet::all() const {
    const std::lock_guard lock(mutex_);
    return models_;
}

std::shared_ptr<ServedModel> ModelSet::choose(const ModelChoice& choice) const {
    const auto models = all();
    if (models.empty()) {
        throw RequestError(
            {.status = 503, .code = "model_loading", .message = "no model is loaded", .retry_after = 5});
    }
    if (!choice.name.empty() && choice.name != "auto") {
        if (auto named = find(choice.name)) return named;
        std::string names;
        for (size_t i = 0; i < std::min<size_t>(models.size(), 5); ++i)
            names += (i > 0 ? ", " : "") + models[i]->name;
        throw RequestError({.status = 404,
                            .code = "model_not_found",
                            .message = fmt::format("the model \"{}\" does not exist; there are: {}",
                                                   choice.name.substr(0, 100), names),
                            .param = "model"});
    }
    const auto least = [&](auto cost) { return *std::ranges::min_element(models, {}, cost); };
    if (choice.priority == "speed") return least([](const auto& m) { return -m->tokens_per_second.load(); });
    if (choice.priority == "quality") {
        if (auto best = find(options_.best)) return best;
        return least([](const auto& m) { return -static_cast<double>(m->weight_bytes()); });
    }
    // Bytes read for a token are what a token costs in time and in energy.
    if (choice.max_tokens > options_.long_answer) {
        return least([](const auto& m) { return m->chat->model().step_bytes(); });
    }
    return least(
        [](const auto& m) { return (m->outstanding + 1) / std::max(m->tokens_per_second.load(), 1e-3); });
}

}  // namespace smelt
