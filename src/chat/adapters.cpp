// Numbers for adapters: one is given anew once neither the list nor a request holds it.
#include "chat/adapters.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "base/error.h"
#include "base/number.h"
#include "chat/chat_model.h"
#include "sampling/sampler.h"

namespace smelt {

namespace {

uint64_t content_hash(const Adapter& adapter) {
    uint64_t h = 0;
    const auto add = [&](std::span<const float> values) {
        for (const float v : values) h = random_bits(h, std::bit_cast<uint32_t>(v), 0);
    };
    for (const LowRank& u : adapter.updates) {
        for (const char c : u.tensor) h = random_bits(h, static_cast<unsigned char>(c), 1);
        add({&u.scale, 1});
        add(u.a);
        add(u.b);
    }
    return h;
}

}  // namespace

AdapterSpec parse_adapter(const std::string& text) {
    AdapterSpec spec;
    std::string path = text;
    const size_t equals = text.find('=');
    if (equals != std::string::npos && !std::filesystem::exists(text)) {
        spec.name = text.substr(0, equals);
        path = text.substr(equals + 1);
    }
    const size_t colon = path.rfind(':');
    if (colon != std::string::npos && !std::filesystem::exists(path)) {
        const auto number = parse_real(std::string_view(path).substr(colon + 1));
        if (!number || !std::isfinite(*number))
            throw Error("--lora: expected [NAME=]PATH or [NAME=]PATH:SCALE, found {}", text);
        spec.scale = static_cast<float>(*number);
        path.resize(colon);
    }
    spec.path = path;
    spec.is_usual = spec.name.empty();
    if (spec.is_usual) {
        std::filesystem::path last(path);
        if (last.filename().empty()) last = last.parent_path();
        spec.name = last.extension() == ".gguf" ? last.stem().string() : last.filename().string();
    }
    if (path.empty() || spec.name.empty())
        throw Error("--lora: expected [NAME=]PATH or [NAME=]PATH:SCALE, found {}", text);
    return spec;
}

std::vector<AdapterSpec> parse_adapters(const std::vector<std::string>& texts) {
    std::vector<AdapterSpec> specs;
    for (const std::string& text : texts) {
        for (size_t at = 0; at <= text.size();) {
            const size_t end =
                std::filesystem::exists(text) ? text.size() : std::min(text.find(',', at), text.size());
            specs.push_back(parse_adapter(text.substr(at, end - at)));
            at = end + 1;
        }
    }
    return specs;
}

int64_t highest_rank(const std::vector<AdapterSpec>& specs, const ModelFile& file, int64_t least) {
    for (const AdapterSpec& spec : specs) {
        for (const LowRank& u : read_adapter(spec.path, file).updates) least = std::max(least, u.rank);
    }
    return least;
}

std::vector<AdapterUse> load_adapters(ChatModel& model, const std::vector<AdapterSpec>& specs) {
    AdapterSet set({&model});
    std::vector<AdapterUse> uses;
    for (AdapterSpec spec : specs) {
        spec.name = std::to_string(uses.size());  // nobody asks for it
        set.load(spec);
        uses.push_back(*set.find(spec.name));
    }
    return uses;
}

// Takes those out of the engines that nobody holds any more. Under loading_.
void AdapterSet::free_unused() {
    for (size_t i = 0; i < held_.size(); ++i) {
        if (!in_engines_[i] || !held_[i].expired()) continue;
        for (ChatModel* m : models_) m->engine().set_adapter(static_cast<int>(i) + 1, nullptr);
        in_engines_[i] = false;
    }
}

void AdapterSet::load(const AdapterSpec& spec) {
    const std::lock_guard one_at_a_time(loading_);
    if (find(spec.name)) throw Error("an adapter with the name {} is loaded already", spec.name);
    if (!models_.front()->takes_adapters())
        throw Error("{}: adapters are not done on several devices; smelt convert --lora merges them",
                    spec.path.string());
    held_.resize(static_cast<size_t>(models_.front()->engine().limits().n_adapters));
    in_engines_.resize(held_.size());
    free_unused();
    const auto free = std::ranges::find_if(held_, [](const auto& h) { return h.expired(); });
    if (free == held_.end())
        throw Error("{}: expected room for one more adapter, found all {} (--max-loras) in use",
                    spec.path.string(), held_.size());
    const auto i = static_cast<size_t>(free - held_.begin());
    const auto adapter = std::make_shared<const Adapter>(read_adapter(spec.path, models_.front()->file()));
    const int number = static_cast<int>(i) + 1;
    in_engines_[i] = true;  // also where not all engines have it: the next load takes it out
    for (ChatModel* m : models_) m->engine().set_adapter(number, adapter);
    const auto hold = std::make_shared<const AdapterHold>(AdapterHold{number, content_hash(*adapter)});
    *free = hold;
    const std::lock_guard lock(mutex_);
    entries_.push_back({spec, hold});
    std::ranges::sort(entries_, {}, [](const Entry& e) { return e.hold->number; });
}

bool AdapterSet::unload(const std::string& name) {
    const std::lock_guard one_at_a_time(loading_);
    {
        const std::lock_guard lock(mutex_);
        if (std::erase_if(entries_, [&](const Entry& e) { return e.spec.name == name; }) == 0) return false;
    }
    free_unused();
    return true;
}

void AdapterSet::set_usual(const std::vector<std::pair<int, float>>& scales) {
    const std::lock_guard lock(mutex_);
    for (Entry& e : entries_) {
        const auto own = std::ranges::find(scales, e.hold->number - 1, &std::pair<int, float>::first);
        e.spec.is_usual = own != scales.end() && own->second != 0;
        if (e.spec.is_usual) e.spec.scale = own->second;
    }
}

std::vector<AdapterSet::Listed> AdapterSet::list() const {
    const std::lock_guard lock(mutex_);
    std::vector<Listed> all;
    for (const Entry& e : entries_) all.push_back({e.spec, e.hold->number - 1});
    return all;
}

std::optional<AdapterUse> AdapterSet::find(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    for (const Entry& e : entries_) {
        if (e.spec.name == name) return AdapterUse{e.hold, e.spec.scale};
    }
    return std::nullopt;
}

std::optional<AdapterUse> AdapterSet::find(int id, float scale) const {
    const std::lock_guard lock(mutex_);
    for (const Entry& e : entries_) {
        if (e.hold->number == id + 1) return AdapterUse{e.hold, scale};
    }
    return std::nullopt;
}

std::vector<AdapterUse> AdapterSet::usual() const {
    const std::lock_guard lock(mutex_);
    std::vector<AdapterUse> uses;
    for (const Entry& e : entries_) {
        if (e.spec.is_usual) uses.push_back({e.hold, e.spec.scale});
    }
    return uses;
}

}  // namespace smelt
