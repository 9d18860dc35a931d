// KL of one rounded tensor alone, and e H eᵀ of rows here and there.
#include "lab/sensitivity.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "lab/calibrated.h"
#include "lab/comparison.h"
#include "lab/named_backend.h"
#include "lab/staged_run.h"

namespace smelt {

namespace {

constexpr auto& candidates = Sensitivity::candidates;
constexpr size_t n_candidates = std::size(Sensitivity::candidates);

// Errors that are seen above the noise, and still small.
Format plain_format(const TensorView& t) {
    return t.row_len() % format_info(Format::Q3_K).block_len == 0 ? Format::Q3_K : Format::Q4_0;
}

class Measurement {
 public:
    Measurement(const std::shared_ptr<const ModelFile>& model, Backend& backend, const TextWindows& windows,
                const SensitivityOptions& options)
        : file_(model), backend_(backend), options_(options), pool_(options.n_threads) {
        const size_t n = windows.n(), judged = std::min(static_cast<size_t>(options.n_windows), (n + 1) / 2);
        const auto length = static_cast<size_t>(windows.length);
        const std::span<const int32_t> ids(windows.ids);
        judged_.emplace(ids.subspan((n - judged) * length), windows.length);
        // A few are enough for second moments that formats are compared by.
        calibration_.emplace(ids.first((n - judged) * length), windows.length, 16);
        for (const TensorView& t : file_->tensors) {
            if (!is_allocated(t)) continue;
            groups_[group_name(t)].push_back(&t);
            result_.tensors[group_name(t)].n_weights += t.n_elements();
        }
    }

    Sensitivity run() {
        measure_errors();
        measure_divergences();
        return std::move(result_);
    }

 private:
    // What each format makes of rows here and there, with the moments of the products that read them.
    void measure_errors() {
        NamedBackend named(backend_, *file_);
        const auto model = load_model(file_, named);
        StagedRun run(*model, named, *calibration_);
        for (;;) {
            Moments moments;
            const bool more = run.advance([&](size_t, std::span<const float> rows) {
                if (moments.n == 0) moments = Moments(static_cast<size_t>(run.product().n_columns));
                moments.add(rows, pool_);
            });
            if (!more) break;
            moments.mirror();
            std::optional<Compensator> compensator;
            for (const Weight* w : run.product().weights) {
                const TensorPart part = named.part_of(*w);
                if (part.tensor == nullptr) continue;
                const auto found = groups_.find(group_name(*part.tensor));
                if (found == groups_.end() || !result_.tensors[found->first].errors.empty()) continue;
                if (!compensator) compensator.emplace(moments, CompensationOptions{.n_sweeps = 0}, pool_);
                measure_rows(result_.tensors[found->first], *part.tensor, *compensator);
            }
        }
    }

    void measure_rows(Sensitivity::Tensor& g, const TensorView& t, const Compensator& compensator) {
        const int64_t n = std::min<int64_t>(options_.n_sampled_rows, t.n_rows());
        const Format plain = plain_format(t);
        g.errors.assign(n_candidates, 0);
        std::vector<std::vector<double>> sums(static_cast<size_t>(pool_.size()),
                                              std::vector<double>(n_candidates + 1));
        pool_.run([&](int member) {
            std::vector<double>& sum = sums[static_cast<size_t>(member)];
            std::vector<float> row(static_cast<size_t>(t.row_len())), back(row.size());
            std::vector<std::byte> bytes(data_bytes(Format::Q8_0, t.row_len()));
            for (int64_t i = member; i < n; i += pool_.size()) {
                decode_row(t.row(i * t.n_rows() / n), row);
                for (size_t c = 0; c < n_candidates; ++c) {
                    if (t.row_len() % format_info(candidates[c]).block_len == 0)
                        sum[c] += compensator.round_row(candidates[c], row, bytes.data());
                }
                encode_row(plain, row, bytes.data(), nullptr);
                decode_row({plain, bytes.data(), nullptr, t.row_len()}, back);
                for (size_t k = 0; k < row.size(); ++k) back[k] = row[k] - back[k];
                sum.back() += compensator.cost(back);
            }
        });
        for (const auto& sum : sums) {
            for (size_t c = 0; c < g.errors.size(); ++c) g.errors[c] += sum[c];
            g.error += sum.back();
        }
    }

    // One group after the other rounded plainly, all else as it is.
    void measure_divergences() {
        const auto reference = load_model(file_, backend_);
        WindowReader reference_reader(*reference, backend_, judged_->length, {});
        std::vector<std::vector<float>> expected;
        for (size_t i = 0; i < judged_->n(); ++i) {
            const auto rows = reference_reader.logits(*judged_, i);
            expected.emplace_back(rows.begin(), rows.end());
        }
        size_t done = 0;
        for (const auto& [name, tensors] : groups_) {
            FormatMap formats;
            for (const TensorView* t : tensors) formats[t->name] = plain_format(*t);
            const auto rounded = with_tensors(*file_, formats, plainly_rounded(formats));
            const auto model = load_model(rounded, backend_);
            WindowReader reader(*model, backend_, judged_->length, {});
            std::vector<TokenScore> scores;
            for (size_t i = 0; i < judged_->n(); ++i) {
                const auto s =
                    score_rows(reader.logits(*judged_, i), expected[i], judged_->targets(i), pool_);
                scores.insert(scores.end(), s.begin(), s.end());
            }
            result_.tensors[name].kl = summarize(scores).kl_mean;
            if (options_.progress) options_.progress(++done, groups_.size());
        }
    }

    TensorBytes plainly_rounded(const FormatMap& formats) {
        TensorBytes bytes;
        for (const auto& [name, format] : formats) {
            const TensorView& t = file_->require(name);
            const size_t row_bytes = data_bytes(format, t.row_len());
            std::vector<std::byte>& out = bytes[name];
            out.resize(row_bytes * static_cast<size_t>(t.n_rows()));
            pool_.run([&](int member) {
                std::vector<float> row(static_cast<size_t>(t.row_len()));
                for (int64_t r = member; r < t.n_rows(); r += pool_.size()) {
                    decode_row(t.row(r), row);
                    encode_row(format, row, out.data() + static_cast<size_t>(r) * row_bytes, nullptr);
                }
            });
        }
        return bytes;
    }

    std::shared_ptr<const ModelFile> file_;
    Backend& backend_;
    SensitivityOptions options_;
    ThreadPool pool_;
    std::optional<TextWindows> judged_, calibration_;
    std::map<std::string, std::vector<const TensorView*>> groups_;
    Sensitivity result_;
};

}  // namespace

std::string group_name(const TensorView& t) {
    std::string name = t.name;
    const size_t at = name.find(".ffn_");
    if (at == std::string::npos) return name;
    // GGUF's old names of single experts: blk.3.ffn_gate.7.weight
    const size_t number = name.find('.', at + 1), end = name.rfind('.');
    if (number != end && number != std::string::npos) name.erase(number, end - number);
    return name;
}

bool is_allocated(const TensorView& t) {
    return takes_format(t) && t.row_len() % 32 == 0;
}

Sensitivity measure_sensitivity(const std::shared_ptr<const ModelFile>& model, Backend& backend,
                                const TextWindows& windows, const SensitivityOptions& options) {
    return Measurement(model, backend, windows, options).run();
}

std::string write_sensitivity(const Sensitivity& sensitivity) {
    Json json = {{"formats", Json::array()}, {"tensors", Json::array()}};
    for (const Format f : candidates) json["formats"].push_back(std::string(to_string(f)));
    for (const auto& [name, t] : sensitivity.tensors) {
        json["tensors"].push_back({{"name", name},
                                   {"weights", t.n_weights},
                                   {"kl", t.kl},
                                   {"error", t.error},
                                   {"errors", t.errors}});
    }
    return json.dump(1) + "\n";
}

Sensitivity read_sensitivity(const ModelFile& model, std::string_view text, const std::string& source) {
    Sensitivity result;
    std::map<std::string, int64_t> weights;
    for (const TensorView& t : model.tensors) {
        if (is_allocated(t)) weights[group_name(t)] += t.n_elements();
    }
    const Json json = parse_json(text, source);
    try {
        std::vector<std::string> formats;
        for (const Format f : candidates) formats.emplace_back(to_string(f));
        if (json.at("formats").get<std::vector<std::string>>() != formats) {
            throw Error("{}: expected the formats that this version allocates, found others", source);
        }
        for (const Json& entry : json.at("tensors")) {
            Sensitivity::Tensor t{entry.at("weights").get<int64_t>(), entry.at("kl").get<double>(),
                                  entry.at("error").get<double>(),
                                  entry.at("errors").get<std::vector<double>>()};
            const auto name = entry.at("name").get<std::string>();
            const auto known = weights.find(name);
            if (known == weights.end() || known->second != t.n_weights ||
                (!t.errors.empty() && t.errors.size() != n_candidates)) {
                throw Error("{}: {} is no tensor of {} as it is measured here", source, name,
                            model.path.string());
            }
            result.tensors.insert_or_assign(name, std::move(t));
        }
    } catch (const nlohmann::json::exception& e) {
        throw Error("{}: expected what --sensitivity writes: {}", source, e.what());
    }
    for (const auto& [name, n] : weights) {
        if (!result.tensors.contains(name)) throw Error("{}: expected tensor {}, found none", source, name);
    }
    return result;
}

}  // namespace smelt
