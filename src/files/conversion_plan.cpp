// Which tensors the target gets: names, number formats, and how rows of the sources become its rows.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "files/conversion.h"
#include "files/families.h"
#include "files/known_keys.h"
#include "files/latent_attention.h"
#include "files/packed/mxfp4_pairs.h"
#include "files/value_heads.h"

namespace smelt {

namespace {

constexpr std::string_view gate = "ffn_gate_exps", up = "ffn_up_exps", gate_up = "ffn_gate_up_exps";

// Also the experts' biases, one a row.
bool is_vector(const TensorView& t) {
    return t.shape.size() < 2 || t.name.ends_with(".bias");
}

// A vector whose elements change places is rows of one.
TensorView as_rows(TensorView t) {
    if (!is_vector(t)) return t;
    if (format_info(t.format).block_len != 1) {
        throw Error("{}: tensor {}: expected floats, found {}", t.source, t.name, to_string(t.format));
    }
    t.shape.push_back(1);
    return t;
}

bool survives(const TensorView& t, Format format) {
    std::vector<float> values(static_cast<size_t>(t.row_len())), back(values.size());
    std::vector<std::byte> narrow(data_bytes(format, t.row_len()));
    for (int64_t r = 0; r < t.n_rows(); ++r) {
        decode_row(t.row(r), values);
        if (!std::ranges::all_of(values, [](float v) { return std::isfinite(v); })) return false;
        encode_row(format, values, narrow.data(), nullptr);
        decode_row({format, narrow.data(), nullptr, t.row_len()}, back);
        if (values != back) return false;
    }
    return true;
}

bool survives(const std::vector<float>& values, Format format) {
    std::vector<float> back(values.size());
    std::vector<std::byte> narrow(data_bytes(format, static_cast<int64_t>(values.size())));
    encode_row(format, values, narrow.data(), nullptr);
    decode_row({format, narrow.data(), nullptr, static_cast<int64_t>(values.size())}, back);
    return values == back;
}

// Vectors that GGUF widened go back to the format of the matrices where that loses nothing.
void narrow_vectors(std::vector<OutputTensor>& plan) {
    const auto matrix = std::ranges::find_if(
        plan, [](const auto& t) { return t.shape.size() == 2 && format_info(t.format).block_len == 1; });
    if (matrix == plan.end() || matrix->format == Format::F32) return;
    const Format target = matrix->format;
    for (OutputTensor& t : plan) {
        const bool vector = t.shape.size() < 2 || is_vector(t.sources.front());
        if (!vector || t.format != Format::F32) continue;
        if (t.make) {
            if (survives(t.make(), target)) t.format = target;
            continue;
        }
        if (std::ranges::all_of(t.sources, [&](const auto& s) { return survives(s, target); })) {
            t.format = target;
        }
    }
}

class Planner {
 public:
    Planner(const ModelFile& model, const Family* family, const FormatChoice& choice)
        : model_(model), family_(family), choice_(choice) {
        if (family == nullptr) return;
        const std::string prefix = std::string(family->architecture) + ".";
        n_experts_ = model.metadata.get_int(prefix + "expert_count").value_or(0);
        head_dim_ = model.metadata.get_int(prefix + "attention.key_length").value_or(0);
        const std::string* from = model.metadata.get_string("smelt.rope.pairing");
        pairing_from_ = from == nullptr ? "half" : *from;
        pairing_to_ = to_gguf() && family->gguf_interleaved ? "interleaved" : "half";
        if (family->recurrent) {
            heads_.emplace(*family, model.metadata);
            const std::string* tiled = model.metadata.get_string("smelt.value_heads");
            tile_heads_ = (tiled != nullptr && *tiled == "tiled") != (to_gguf() && family->tiled_in_gguf);
        }
    }

    void add(const TensorView& t) {
        const auto match = family_ == nullptr ? std::nullopt : match_gguf(*family_, t.name);
        if (match) {
            if (family_->latent && choice_.target != model_.container && add_latent(t, match->layer)) return;
            if (heads_ && choice_.target != model_.container && add_joined_heads(t, match->layer)) return;
            if (!to_gguf() && add_as_kept(t, *match)) return;
            if (tile_heads_ && add_with_tiled_heads(t, *match)) return;
            if (to_gguf()) return add_for_gguf(t, *match);
            return add_for_hugging_face(t, *match);
        }
        if (family_ != nullptr && choice_.target != model_.container) {
            throw Error("{}: tensor {}: {} has no name for it in the other container", t.source, t.name,
                        family_->architecture);
        }
        plan_.push_back({t.name, {t}, t.shape, choose_format(t, choice_)});
    }

    std::vector<OutputTensor> finish() {
        for (const auto& [name, i] : joined_) check_joined(plan_[i]);
        std::vector<OutputTensor> result;
        for (OutputTensor& t : plan_) {
            if (!to_gguf() && t.name.ends_with(blocks_ending)) {
                add_planes(std::move(t), result);
            } else {
                result.push_back(std::move(t));
            }
        }
        return result;
    }

 private:
    bool to_gguf() const { return choice_.target == Container::gguf; }

    void add_for_gguf(const TensorView& t, const RuleMatch& match) {
        if (match.expert >= 0) {
            OutputTensor& out = join(gguf_name({match.rule, match.layer, -1}), t, match.expert, n_experts_);
            out.shape = {n_experts_};
            out.shape.insert(out.shape.end(), t.shape.begin(), t.shape.end());
        } else if (const size_t at = t.name.find(gate_up); at != std::string::npos) {
            split_gate_up(t, at);
        } else {
            add_one(t, match, t.name);
        }
    }

    void add_for_hugging_face(const TensorView& t, const RuleMatch& match) {
        if (has_experts_apart(*match.rule) && match.expert < 0) return unstack(t, *match.rule, match.layer);
        if (!match.rule->hf.empty()) return add_one(t, match, hf_name(match));
        for (const auto& [part, i] : {std::pair(gate, 0), std::pair(up, 1)}) {
            const TensorRule* whole = gate_up_rule(*match.rule, part);
            if (whole != nullptr) return join_gate_up(t, i, hf_name({whole, match.layer, -1}));
        }
        // What else has no name there is said by config.json.
    }

    // Latent attention's projections, which the containers cut differently; false: t is none of them.
    bool add_latent(const TensorView& t, int64_t layer) {
        const std::string p = fmt::format("blk.{}.", layer), v_b = p + "attn_v_b.weight";
        const std::string kv_b = p + "attn_kv_b.weight", k_b = p + "attn_k_b.weight";
        if (to_gguf() && t.name == kv_b) {
            const LatentSizes s = latent_sizes(model_, std::string(family_->architecture));
            add_made(t, k_b, {s.n_heads, s.kv_rank, s.nope}, [&t, s] { return make_k_b(t, s); });
            add_made(t, v_b, {s.n_heads, s.v, s.kv_rank}, [&t, s] { return make_v_b(t, s); });
            return true;
        }
        if (!to_gguf() && t.name == k_b) {
            const LatentSizes s = latent_sizes(model_, std::string(family_->architecture));
            const TensorView& values = model_.require(v_b);
            add_made(t, hf_name(*match_gguf(*family_, kv_b)), {s.n_heads * (s.nope + s.v), s.kv_rank},
                     [&t, &values, s] { return make_kv_b(t, values, s); });
            return true;
        }
        return !to_gguf() && t.name == v_b;
    }

    // What Hugging Face files have otherwise, see TensorRole; false: this is the same in both.
    bool add_as_kept(const TensorView& t, const RuleMatch& match) {
        const TensorRole role = match.rule->role;
        const std::string name = hf_name(match);
        if (role == TensorRole::one_plus || role == TensorRole::decay) {
            const auto floats = [](const TensorView& from) {
                std::vector<float> values(static_cast<size_t>(from.n_elements()));
                decode_row({from.format, from.data.data(), nullptr, from.n_elements()}, values);
                return values;
            };
            const std::vector<SourceRow> rows = tile_heads_ && !match.rule->head_rows.empty()
                                                    ? heads_->rows(*match.rule, t.n_elements())
                                                    : std::vector<SourceRow>{};
            add_made(t, name, t.shape, [&t, role, floats, rows] {
                const std::vector<float> from = floats(t);
                std::vector<float> values = from;
                for (size_t i = 0; i < rows.size(); ++i) values[i] = from[static_cast<size_t>(rows[i].row)];
                for (float& v : values) v = role == TensorRole::one_plus ? v - 1 : std::log(-v);
                return values;
            });
            return true;
        }
        std::vector<int64_t> shape = t.shape;
        if (role == TensorRole::row) {
            shape = {1, t.n_elements()};
        } else if (role == TensorRole::channels) {
            shape = {t.n_rows(), 1, t.row_len()};
        } else {
            return false;
        }
        plan_.push_back({name, {t}, std::move(shape), choose_format(t, choice_)});
        if (role == TensorRole::channels && tile_heads_ && !match.rule->head_rows.empty()) {
            plan_.back().order = RowOrder::listed;
            plan_.back().rows = heads_->rows(*match.rule, t.n_rows());
        }
        return true;
    }

    // Value heads of recurrent layers, which change places; false: t has none.
    bool add_with_tiled_heads(const TensorView& t, const RuleMatch& match) {
        const TensorRule& rule = *match.rule;
        if (rule.head_rows.empty() && rule.head_columns.empty()) return false;
        const std::string name = to_gguf() ? t.name : hf_name(match);
        if (!rule.head_columns.empty()) {
            const std::vector<SourceRow> columns = heads_->columns(rule, t.row_len());
            add_made(t, name, t.shape, [&t, columns] {
                std::vector<float> row(static_cast<size_t>(t.row_len())), all;
                for (int64_t r = 0; r < t.n_rows(); ++r) {
                    decode_row(t.row(r), row);
                    for (const SourceRow& c : columns) all.push_back(row[static_cast<size_t>(c.row)]);
                }
                return all;
            });
            return true;
        }
        OutputTensor out{name, {as_rows(t)}, t.shape, choose_format(t, choice_)};
        out.order = RowOrder::listed;
        out.rows = heads_->rows(rule, out.sources.front().n_rows());
        plan_.push_back(std::move(out));
        return true;
    }

    // Of Hugging Face's matrix of queries, keys, values and gates by key head GGUF makes two, in which each
    // of the four is together; false: t is none of them.
    bool add_joined_heads(const TensorView& t, int64_t layer) {
        const std::string p = fmt::format("blk.{}.", layer), gate_name = p + "attn_gate.weight",
                          qkv_name = p + "attn_qkv.weight", all_name = p + "ssm_in.weight";
        if (find_rule(*family_, "blk.{}.ssm_in.weight") == nullptr) return false;
        if (to_gguf() && t.name == all_name) {
            heads_->check(t);
            const int64_t n_qkv = heads_->n_qkv(), n_all = t.n_rows();
            std::vector<SourceRow> qkv(static_cast<size_t>(n_qkv)), gates(static_cast<size_t>(n_all - n_qkv));
            for (int64_t r = 0; r < n_all; ++r) {
                const int64_t to = heads_->apart(r);
                (to < n_qkv ? qkv[static_cast<size_t>(to)] : gates[static_cast<size_t>(to - n_qkv)]) = {0, r};
            }
            for (auto* part : {&qkv, &gates}) {
                plan_.push_back({part == &qkv ? qkv_name : gate_name,
                                 {t},
                                 {std::ssize(*part), t.row_len()},
                                 choose_format(t, choice_)});
                plan_.back().order = RowOrder::listed;
                plan_.back().rows = std::move(*part);
            }
            return true;
        }
        if (!to_gguf() && t.name == qkv_name) {
            const TensorView& gates = model_.require(gate_name);
            const int64_t n_all = t.n_rows() + gates.n_rows();
            std::vector<SourceRow> rows;
            for (int64_t r = 0; r < n_all; ++r) {
                const int64_t from = heads_->apart(r);
                rows.push_back(from < t.n_rows() ? SourceRow{0, from} : SourceRow{1, from - t.n_rows()});
            }
            if (t.n_rows() != heads_->n_qkv() || gates.row_len() != t.row_len() || gates.format != t.format) {
                throw Error("{}: tensor {}: expected rows as {} has them", t.source, t.name, gates.name);
            }
            plan_.push_back({hf_name(*match_gguf(*family_, all_name)),
                             {t, gates},
                             {n_all, t.row_len()},
                             choose_format(t, choice_)});
            plan_.back().order = RowOrder::listed;
            plan_.back().rows = std::move(rows);
            return true;
        }
        return !to_gguf() && t.name == gate_name;
    }

    // In the number format that `like` would have.
    void add_made(const TensorView& like, std::string name, std::vector<int64_t> shape,
                  std::function<std::vector<float>()> make) {
        TensorView source = like;
        source.shape = shape;
        source.data = source.scales = {};
        const Format format = choose_format(source, choice_);
        source.format = Format::F32;
        plan_.push_back({std::move(name), {source}, std::move(shape), format});
        plan_.back().make = std::move(make);
    }

    // One of one; rows of rotated heads in the order that the target pairs them.
    void add_one(const TensorView& t, const RuleMatch& match, std::string name) {
        OutputTensor out{std::move(name), {t}, t.shape, choose_format(t, choice_)};
        const TensorRole role = match.rule->role;
        out.by_columns =
            role == TensorRole::conv1d && choice_.target == Container::hugging_face && t.shape.size() == 2;
        if (role == TensorRole::rotary && pairing_from_ != pairing_to_) {
            out.order = pairing_to_ == "interleaved" ? RowOrder::halves_to_pairs : RowOrder::pairs_to_halves;
            out.sources = {as_rows(t)};
            out.head_dim = head_dim_;
            const int64_t n = out.sources.front().n_rows();
            if (head_dim_ < 2 || head_dim_ % 2 != 0 || n % head_dim_ != 0) {
                throw Error("{}: tensor {}: expected rows in heads of {}, found {}", t.source, t.name,
                            head_dim_, n);
            }
        }
        plan_.push_back(std::move(out));
    }

    // Part i of n of a tensor that several become; it is made with the first that comes.
    OutputTensor& join(const std::string& name, const TensorView& t, int64_t i, int64_t n) {
        if (i < 0 || i >= n) {
            throw Error("{}: tensor {}: expected expert 0 to {}, found {}", t.source, t.name, n - 1, i);
        }
        const auto [it, is_new] = joined_.try_emplace(name, plan_.size());
        if (is_new) {
            plan_.push_back(
                {name, std::vector<TensorView>(static_cast<size_t>(n)), {}, choose_format(t, choice_)});
        }
        OutputTensor& out = plan_[it->second];
        out.sources[static_cast<size_t>(i)] = t;
        return out;
    }

    void check_joined(const OutputTensor& out) const {
        const auto first = std::ranges::find_if(out.sources, [](const auto& s) { return !s.name.empty(); });
        for (size_t i = 0; i < out.sources.size(); ++i) {
            const TensorView& t = out.sources[i];
            if (t.name.empty()) {
                throw Error("{}: {}: expected {} parts as {}, part {} is missing", model_.path.string(),
                            out.name, out.sources.size(), first->name, i);
            }
            if (t.shape != first->shape || t.format != first->format) {
                throw Error("{}: tensor {}: expected {} ({}) as {}, found {} ({})", t.source, t.name,
                            to_string(first->format), fmt::join(first->shape, ", "), first->name,
                            to_string(t.format), fmt::join(t.shape, ", "));
            }
        }
    }

    void unstack(const TensorView& t, const TensorRule& rule, int64_t layer) {
        if (t.shape.size() != 3 || t.shape[0] != n_experts_ || n_experts_ == 0) {
            throw Error("{}: tensor {}: expected shape ({}, rows, columns), file has ({})", t.source, t.name,
                        n_experts_, fmt::join(t.shape, ", "));
        }
        const auto n = static_cast<size_t>(n_experts_);
        for (size_t e = 0; e < n; ++e) {
            TensorView expert = t;
            expert.shape = {t.shape[1], t.shape[2]};
            expert.data = t.data.subspan(t.data.size() / n * e, t.data.size() / n);
            expert.scales = t.scales.subspan(t.scales.size() / n * e, t.scales.size() / n);
            plan_.push_back({hf_name({&rule, layer, static_cast<int64_t>(e)}),
                             {expert},
                             expert.shape,
                             choose_format(expert, choice_)});
        }
    }

    // Which dimension has gate and up by turns: the rows of a weight, the elements of a bias.
    static size_t turns(const TensorView& t) { return t.shape.size() - (is_vector(t) ? 1 : 2); }

    void split_gate_up(const TensorView& t, size_t at) {
        if (t.shape.size() < 2 || t.shape[turns(t)] % 2 != 0) {
            throw Error("{}: tensor {}: expected gate and up by turns, file has shape ({})", t.source, t.name,
                        fmt::join(t.shape, ", "));
        }
        for (const auto& [part, order] :
             {std::pair(gate, RowOrder::even_rows), std::pair(up, RowOrder::odd_rows)}) {
            OutputTensor out{std::string(t.name).replace(at, gate_up.size(), part),
                             {as_rows(t)},
                             t.shape,
                             choose_format(t, choice_)};
            out.shape[turns(t)] /= 2;
            out.order = order;
            plan_.push_back(std::move(out));
        }
    }

    // The rule for gate and up together, where `rule` is for `part` of them.
    const TensorRule* gate_up_rule(const TensorRule& rule, std::string_view part) const {
        std::string pattern(rule.gguf);
        const size_t at = pattern.find(part);
        return at == std::string::npos ? nullptr
                                       : find_rule(*family_, pattern.replace(at, part.size(), gate_up));
    }

    void join_gate_up(const TensorView& t, int64_t i, const std::string& name) {
        if (t.shape.size() < 2) {
            throw Error("{}: tensor {}: expected one row or more an expert, file has shape ({})", t.source,
                        t.name, fmt::join(t.shape, ", "));
        }
        OutputTensor& out = join(name, as_rows(t), i, 2);
        out.order = RowOrder::by_turns;
        out.shape = t.shape;
        out.shape[turns(t)] *= 2;
    }

    // Hugging Face's two tensors of an MXFP4 weight.
    void add_planes(OutputTensor out, std::vector<OutputTensor>& result) const {
        const TensorView& t = out.sources.front();
        const bool mxfp4 = t.format == Format::MXFP4 || t.format == Format::MXFP4_HF;
        if (!mxfp4 || choice_.requested) {
            throw Error(
                "{}: tensor {}: expected mxfp4, as Hugging Face folders hold it, and no --format; found {}",
                t.source, t.name, to_string(choice_.requested.value_or(t.format)));
        }
        out.format = Format::MXFP4_HF;
        out.plane = Plane::quants;
        result.push_back(out);
        out.plane = Plane::scales;
        out.name.replace(out.name.size() - blocks_ending.size(), blocks_ending.size(), scales_ending);
        result.push_back(std::move(out));
    }

    const ModelFile& model_;
    const Family* family_;
    FormatChoice choice_;
    int64_t n_experts_ = 0, head_dim_ = 0;
    std::string pairing_from_, pairing_to_;
    std::optional<ValueHeads> heads_;  // of recurrent models
    bool tile_heads_ = false;          // their places change
    std::vector<OutputTensor> plan_;
    std::map<std::string, size_t> joined_;  // target's name -> index in plan_
};

}  // namespace

Format main_format(const ModelFile& model) {
    std::map<Format, size_t> bytes;
    for (const TensorView& t : model.tensors) bytes[t.format] += t.n_bytes();
    const auto most = std::ranges::max_element(bytes, {}, [](const auto& b) { return b.second; });
    return most == bytes.end() ? Format::F32 : most->first;
}

Format choose_format(const TensorView& tensor, const FormatChoice& choice) {
    const bool to_gguf = choice.target == Container::gguf;
    if (choice.formats != nullptr) {
        if (const auto own = choice.formats->find(tensor.name); own != choice.formats->end())
            return own->second;
    }
    if (is_vector(tensor) || tensor.name.ends_with("ssm_conv1d.weight"))
        return to_gguf ? Format::F32 : tensor.format;
    const bool router = tensor.name.ends_with("ffn_gate_inp.weight");
    if (choice.requested && !router) {
        if (tensor.row_len() % format_info(*choice.requested).block_len == 0) return *choice.requested;
        return tensor.format == Format::F32 ? Format::F16 : tensor.format;
    }
    const bool quantized = format_info(tensor.format).block_len > 1;
    if (!to_gguf) return quantized ? Format::F16 : tensor.format;
    if (tensor.format == Format::MXFP4_HF) return Format::MXFP4;
    if (format_info(tensor.format).gguf_id >= 0) return tensor.format;
    return tensor.row_len() % format_info(Format::Q8_0).block_len == 0 ? Format::Q8_0 : Format::F16;
}

std::vector<OutputTensor> plan_tensors(const ModelFile& model, const FormatChoice& choice) {
    if (choice.requested && !format_info(*choice.requested).can_encode) {
        throw Error("format {}: is for reading only; formats to write are {}", to_string(*choice.requested),
                    encodable_names());
    }
    if (choice.requested && choice.target == Container::gguf && format_info(*choice.requested).gguf_id < 0) {
        throw Error("format {}: GGUF has no type for it; formats to write are {}",
                    to_string(*choice.requested), encodable_names());
    }
    if (!model.unsupported.empty()) (void)model.require(model.unsupported.front().name);
    const std::string* architecture = model.metadata.get_string("general.architecture");
    const Family* family = family_of(model.metadata);
    if (family == nullptr && choice.target != model.container) {
        throw Error("{}: architecture {}: this build has no table of its names in the other container",
                    model.path.string(), architecture == nullptr ? "(none)" : *architecture);
    }
    require_known(model);
    if (const auto missing = missing_tensors(model); !missing.empty()) (void)model.require(missing.front());

    Planner planner(model, family, choice);
    for (const TensorView& t : model.tensors) planner.add(t);
    std::vector<OutputTensor> plan = planner.finish();
    if (choice.target == Container::hugging_face && model.container != Container::hugging_face) {
        narrow_vectors(plan);
    }
    return plan;
}

}  // namespace smelt
