// One run, whose products are exchanged as they are rounded.
#include "lab/calibrated.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <mutex>

#include "base/error.h"
#include "lab/named_backend.h"
#include "lab/staged_run.h"

namespace smelt {

namespace {

class Calibration {
 public:
    Calibration(std::shared_ptr<const ModelFile> file, Backend& backend, const TextWindows& windows,
                const FormatMap& formats, const CalibrationOptions& options)
        : file_(std::move(file)),
          backend_(backend, *file_),
          windows_(windows),
          formats_(formats),
          options_(options),
          pool_(options.n_threads),
          model_(load_model(file_, backend_)) {
        for (const auto& [name, format] : formats_) {
            const TensorView& t = file_->require(name);
            if (!Compensator::can_round(format))
                throw Error("{}: {} cannot be rounded with calibration", name, to_string(format));
            if (t.row_len() % format_info(format).block_len != 0) {
                throw Error("{}: expected rows of whole blocks of {} weights, found rows of {}", name,
                            format_info(format).block_len, t.row_len());
            }
        }
    }

    TensorBytes run() {
        StagedRun run(*model_, backend_, windows_);
        if (const auto table = formats_.find("token_embd.weight"); table != formats_.end()) {
            round_embedding(table->second, run);
        }
        std::optional<StagedRun> original;  // side by side with the rounded one
        if (options_.follow_errors && options_.correction > 0) original.emplace(*model_, backend_, windows_);
        while (run.begin()) {
            const auto n = static_cast<size_t>(run.product().n_columns);
            Moments moments(n);
            Drift drift(original ? n : 0);
            if (original) original->begin();
            std::vector<float> before;
            for (size_t w = 0; w < windows_.n(); ++w) {
                if (original) {
                    const auto rows = original->read_window(w);
                    before.assign(rows.begin(), rows.end());
                }
                const auto rows = run.read_window(w);
                add(run, rows, moments);
                if (original) drift.add(before, rows, pool_);
            }
            run.finish();
            if (original) original->finish();
            moments.mirror();
            round_product(run.product(), moments, original ? &drift : nullptr, run);
        }
        for (const auto& [name, format] : formats_) {
            if (!bytes_.contains(name)) throw Error("{}: no product of the model reads it", name);
        }
        return std::move(bytes_);
    }

 private:
    void add(const StagedRun& run, std::span<const float> rows, Moments& moments) {
        if (moments.n == 0) moments = Moments(static_cast<size_t>(run.product().n_columns));
        for (const float v : rows) {
            if (!std::isfinite(v)) throw Error("{}: inputs that are not finite", name_of(run.product()));
        }
        moments.add(rows, pool_);
    }
    std::string name_of(const StagedRun::Product& p) const {
        const TensorPart part = backend_.part_of(*p.weights.front());
        return part.tensor == nullptr ? "a product" : part.tensor->name;
    }

    // Before all products, since they read it: with what it is multiplied with where it is the head too.
    void round_embedding(Format format, StagedRun& run) {
        const TensorView& t = file_->require("token_embd.weight");
        Moments moments(static_cast<size_t>(t.row_len()));
        const Weight* table = nullptr;
        if (file_->find("output.weight") == nullptr) {
            StagedRun head(*model_, backend_, windows_);
            Moments last;
            while (head.advance([&](size_t, std::span<const float> rows) { add_last(head, rows, last); })) {
                if (is_of(head.product(), t)) {
                    table = head.product().weights.front();
                    moments = std::move(last);
                }
                last = Moments();
            }
        }
        moments.mirror();
        double mean = 0;
        for (size_t i = 0; i < moments.n; ++i)
            mean += static_cast<double>(moments.diagonal(i)) / static_cast<double>(moments.n);
        for (size_t i = 0; i < moments.n; ++i) {
            moments.h[i * moments.n + i] += static_cast<float>(options_.lookup_share * (mean > 0 ? mean : 1));
        }
        const Compensator compensator(moments, options_.rounding, pool_);
        round_rows(t, 0, t.n_rows(), format, compensator, nullptr);
        if (table != nullptr) exchange(*table, {&t, 0}, t.n_rows(), format, WeightUse::embedding, run);
    }
    // Moments of the head alone: other products are passed.
    void add_last(const StagedRun& run, std::span<const float> rows, Moments& last) {
        if (!is_of(run.product(), file_->require("token_embd.weight"))) return;
        add(run, rows, last);
    }
    bool is_of(const StagedRun::Product& p, const TensorView& t) const {
        return std::ranges::any_of(p.weights,
                                   [&](const Weight* w) { return backend_.part_of(*w).tensor == &t; });
    }

    void round_product(const StagedRun::Product& product, const Moments& moments, const Drift* drift,
                       StagedRun& run) {
        std::optional<Compensator> compensator;  // made when the first tensor asks for it
        for (const Weight* w : product.weights) {
            const TensorPart part = backend_.part_of(*w);
            if (part.tensor == nullptr) continue;
            const auto format = formats_.find(part.tensor->name);
            if (format == formats_.end() || part.tensor->name == "token_embd.weight") continue;
            if (!compensator) compensator.emplace(moments, options_.rounding, pool_);
            round_rows(*part.tensor, part.first_row, w->rows, format->second, *compensator, drift);
            exchange(*w, part, w->rows, format->second, WeightUse::matrix, run);
        }
    }

    void round_rows(const TensorView& t, int64_t first, int64_t n_rows, Format format,
                    const Compensator& compensator, const Drift* drift) {
        std::vector<std::byte>& bytes = bytes_[t.name];
        const size_t row_bytes = data_bytes(format, t.row_len());
        bytes.resize(row_bytes * static_cast<size_t>(t.n_rows()));
        std::vector<double> costs(static_cast<size_t>(pool_.size())), sizes(costs.size());
        std::mutex mutex;
        std::string failure;
        pool_.run([&](int member) {
            const auto m = static_cast<size_t>(member);
            std::vector<float> row(static_cast<size_t>(t.row_len()));
            for (int64_t r = member; r < n_rows; r += pool_.size()) {
                decode_row(t.row(first + r), row);
                if (!std::ranges::all_of(row, [](float v) { return std::isfinite(v); })) {
                    const std::lock_guard lock(mutex);
                    failure = fmt::format("{}: tensor {}: values that are not finite", t.source, t.name);
                    return;
                }
                sizes[m] += compensator.cost(row);
                if (drift != nullptr) compensator.follow(*drift, options_.correction, row);
                costs[m] += compensator.round_row(format, row,
                                                  bytes.data() + static_cast<size_t>(first + r) * row_bytes);
            }
        });
        if (!failure.empty()) throw Error(failure);
        double cost = 0, size = 0;
        for (size_t m = 0; m < costs.size(); ++m) {
            cost += costs[m];
            size += sizes[m];
        }
        ++n_done_;
        if (options_.report) options_.report(t.name, format, size > 0 ? cost / size : 0);
        if (options_.progress) options_.progress(n_done_, formats_.size());
    }

    void exchange(const Weight& old, const TensorPart& part, int64_t n_rows, Format format, WeightUse use,
                  StagedRun& run) {
        if (!options_.follow_errors) return;
        const size_t row_bytes = data_bytes(format, part.tensor->row_len());
        const auto bytes = std::span<const std::byte>(bytes_[part.tensor->name])
                               .subspan(static_cast<size_t>(part.first_row) * row_bytes,
                                        static_cast<size_t>(n_rows) * row_bytes);
        weights_.push_back(backend_.load({format, n_rows, part.tensor->row_len(), bytes, {}}, {.use = use}));
        run.replace(&old, &weights_.back());
    }

    std::shared_ptr<const ModelFile> file_;
    NamedBackend backend_;
    const TextWindows& windows_;
    const FormatMap& formats_;
    const CalibrationOptions& options_;
    ThreadPool pool_;
    std::unique_ptr<Model> model_;
    TensorBytes bytes_;
    std::deque<Weight> weights_;
    size_t n_done_ = 0;
};

}  // namespace

TensorBytes round_calibrated(std::shared_ptr<const ModelFile> file, Backend& backend,
                             const TextWindows& windows, const FormatMap& formats,
                             const CalibrationOptions& options) {
    return Calibration(std::move(file), backend, windows, formats, options).run();
}

std::shared_ptr<const ModelFile> with_tensors(const ModelFile& file, const FormatMap& formats,
                                              TensorBytes bytes) {
    auto result = std::make_shared<ModelFile>(file);
    for (TensorView& t : result->tensors) {
        const auto found = bytes.find(t.name);
        if (found == bytes.end()) continue;
        auto kept = std::make_shared<const std::vector<std::byte>>(std::move(found->second));
        t.format = formats.at(t.name);
        t.data = *kept;
        t.scales = {};
        result->owned.push_back(std::move(kept));
    }
    return result;
}

}  // namespace smelt
