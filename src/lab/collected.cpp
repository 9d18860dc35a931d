// One run over the text, product after product.
#include "lab/collected.h"

#include "base/error.h"
#include "lab/named_backend.h"
#include "lab/staged_run.h"

namespace smelt {

namespace {

// GGUF's name of the tensor, and which of its matrices this is: experts are stacked there.
struct Place {
    std::string name;
    size_t matrix = 0;
};
Place place_of(const TensorPart& part, int64_t n_rows) {
    const TensorView& t = *part.tensor;
    // Hugging Face's experts are tensors of their own: blk.3.ffn_gate.7.weight
    const size_t at = t.name.find(".ffn_");
    if (at != std::string::npos) {
        const size_t number = t.name.find('.', at + 1), end = t.name.rfind('.');
        if (number != std::string::npos && number != end) {
            return {t.name.substr(0, number) + "_exps" + t.name.substr(end),
                    std::stoul(t.name.substr(number + 1, end - number - 1))};
        }
    }
    return {t.name, static_cast<size_t>(t.shape.size() == 3 ? part.first_row / n_rows : 0)};
}

}  // namespace

ImportanceMatrix collect_importance(const std::shared_ptr<const ModelFile>& model, Backend& backend,
                                    const TextWindows& windows) {
    ImportanceMatrix matrix;
    matrix.n_windows = static_cast<int64_t>(windows.n());
    matrix.window = windows.length;
    NamedBackend named(backend, *model);
    const auto loaded = load_model(model, named);
    StagedRun run(*loaded, named, windows);
    for (;;) {
        std::vector<double> sums;
        size_t n_tokens = 0;
        const bool more = run.advance([&](size_t, std::span<const float> rows) {
            const auto n = static_cast<size_t>(run.product().n_columns);
            sums.resize(n);
            n_tokens += rows.size() / n;
            for (size_t i = 0; i < rows.size(); ++i) {
                sums[i % n] += static_cast<double>(rows[i]) * static_cast<double>(rows[i]);
            }
        });
        if (!more) break;
        for (const Weight* w : run.product().weights) {
            const TensorPart part = named.part_of(*w);
            if (part.tensor == nullptr) continue;
            const Place place = place_of(part, w->rows);
            ImportanceMatrix::Entry& entry = matrix.entries[place.name];
            if (entry.counts.size() <= place.matrix) {
                entry.counts.resize(place.matrix + 1);
                entry.sums.resize((place.matrix + 1) * sums.size());
            }
            entry.counts[place.matrix] = static_cast<float>(n_tokens);
            for (size_t i = 0; i < sums.size(); ++i)
                entry.sums[place.matrix * sums.size() + i] = static_cast<float>(sums[i]);
        }
    }
    return matrix;
}

}  // namespace smelt
