// Workspace of a record, and the loops over fields: printing, comparing, hashing, counting.
#include "backend/record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "backend/kv_storage.h"

namespace smelt {

using namespace op;

namespace {

constexpr size_t alignment = 256;  // bytes; Metal's largest requirement for a buffer offset

const char* rows_name(RowsOf rows) {
    switch (rows) {
        case RowsOf::tokens:
            return " tokens";
        case RowsOf::sequences:
            return " sequences";
        case RowsOf::logits:
            return " logits rows";
        case RowsOf::hidden:
            return " hidden rows";
        case RowsOf::fixed:
            break;
    }
    return "";
}

template <class T>
constexpr bool is_number = std::is_arithmetic_v<T> || std::is_enum_v<T>;

struct Printer {
    std::string& to;
    void operator()(Access, const char* name, const Tensor& t) {
        if (!t) return;
        fmt::format_to(std::back_inserter(to), " {}=[{}{}", name, t.n_rows(), rows_name(t.rows_of));
        for (int i = 1; i < t.rank; ++i)
            fmt::format_to(std::back_inserter(to), ", {}", t.shape[static_cast<size_t>(i)]);
        to += t.space == Space::input ? "] of the input" : "]";
    }
    void operator()(const char* name, const Weight* w) {
        if (w == nullptr) return;
        fmt::format_to(std::back_inserter(to), " {}={}({}, {})", name, to_string(w->format), w->rows,
                       w->cols);
    }
    void operator()(const char* name, const WeightList& list) {
        fmt::format_to(std::back_inserter(to), " {}={} x {}({}, {})", name, list.size(),
                       to_string(list[0]->format), list[0]->rows, list[0]->cols);
    }
    void operator()(const char* name, const KvStorage* kv) {
        const KvShape& s = kv->shape();
        fmt::format_to(std::back_inserter(to), " {}={} heads of {}", name, s.n_heads, s.k_dim);
    }
    template <class T>
    requires is_number<T>
    void operator()(const char* name, const T& value) {
        if constexpr (std::is_enum_v<T>) {
            fmt::format_to(std::back_inserter(to), " {}={}", name, static_cast<int>(value));
        } else {
            fmt::format_to(std::back_inserter(to), " {}={}", name, value);
        }
    }
};

// The members of an op as a sequence of words: what equality and hashes go by.
struct Words {
    std::vector<uint64_t>& to;
    void operator()(Access, const char*, const Tensor& t) {
        to.insert(to.end(), {static_cast<uint64_t>(t.space), static_cast<uint64_t>(t.dtype),
                             static_cast<uint64_t>(t.rows_of), static_cast<uint64_t>(t.rank), t.offset,
                             static_cast<uint64_t>(t.rows_each), static_cast<uint64_t>(t.row_stride)});
        for (const int64_t n : t.shape) to.push_back(static_cast<uint64_t>(n));
    }
    void operator()(const char*, const Weight* w) { to.push_back(reinterpret_cast<uintptr_t>(w)); }
    void operator()(const char*, const WeightList& list) {
        to.push_back(list.size());
        for (const Weight* w : list) to.push_back(reinterpret_cast<uintptr_t>(w));
    }
    void operator()(const char*, const KvStorage* kv) { to.push_back(reinterpret_cast<uintptr_t>(kv)); }
    template <class T>
    requires is_number<T>
    void operator()(const char*, const T& value) {
        uint64_t word = 0;
        std::memcpy(&word, &value, sizeof(value));
        to.push_back(word);
    }
};

std::vector<uint64_t> words_of(const Record& record) {
    std::vector<uint64_t> words{record.shape().hash(), record.ops().size()};
    for (const AnyOp& any : record.ops()) {
        words.push_back(any.index());
        std::visit([&](const auto& op) { op.fields(op, Words{words}); }, any);
    }
    return words;
}

struct ByteCounter {
    const StepCounts& counts;
    size_t bytes = 0;
    void operator()(Access access, const char*, const Tensor& t) {
        if (!t) return;
        const size_t n = static_cast<size_t>(counts.rows(t) * t.row_len()) * dtype_bytes(t.dtype);
        bytes += access == Access::update ? 2 * n : n;
    }
    void operator()(const char*, const Weight* w) {
        if (w != nullptr) bytes += w->n_bytes();
    }
    void operator()(const char*, const WeightList& list) {
        for (const Weight* w : list) bytes += w->n_bytes();
    }
    template <class T>
    void operator()(const char*, const T&) {}
};

int64_t rows_in(const Tensor& t, const StepCounts& counts) {
    return counts.rows(t);
}

}  // namespace

Record Record::without_ops() const {
    Record r = *this;
    r.ops_.clear();
    return r;
}

Tensor Record::take(DType dtype, RowsOf rows_of, std::initializer_list<int64_t> shape, int64_t rows_each) {
    Tensor t{.dtype = dtype,
             .rows_of = rows_of,
             .rank = static_cast<int>(shape.size()),
             .buffer = static_cast<int>(buffers_.size()),
             .rows_each = rows_each,
             .offset = used_};
    std::copy(shape.begin(), shape.end(), t.shape.begin());
    t.row_stride = t.row_len();
    used_ += std::max(alignment, (t.n_bytes() + alignment - 1) / alignment * alignment);
    workspace_bytes_ = std::max(workspace_bytes_, used_);
    return buffers_.emplace_back(t);
}

WeightList Record::keep(std::vector<const Weight*> list) {
    if (lists_ == nullptr) lists_ = std::make_shared<std::deque<std::vector<const Weight*>>>();
    return lists_->emplace_back(std::move(list));
}

std::string_view op_name(const AnyOp& op) {
    static constexpr std::string_view names[] = {
#define X(name) #name,
        SMELT_OPS(X)
#undef X
    };
    return names[op.index()];
}

std::string print_op(const AnyOp& any) {
    std::string text(op_name(any));
    std::visit([&](const auto& op) { op.fields(op, Printer{text}); }, any);
    return text;
}

std::string Record::print() const {
    std::string text;
    for (const AnyOp& op : ops_) text += print_op(op) + '\n';
    return text;
}

bool Record::operator==(const Record& other) const {
    return shape_ == other.shape_ && results == other.results && words_of(*this) == words_of(other);
}

size_t Record::hash() const {
    uint64_t h = 0;
    for (const uint64_t word : words_of(*this)) {
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    return h;
}

StepResult result_of(const Record::Results& r, const std::byte* workspace, const StepCounts& counts) {
    const auto view = [&]<class T>(const Tensor& t, std::span<const T>& to) {
        if (!t) return;
        const T* first = reinterpret_cast<const T*>(workspace + t.offset);
        to = {first, static_cast<size_t>(counts.rows(t) * t.row_len())};
    };
    StepResult result;
    view(r.tokens, result.tokens);
    view(r.logprobs, result.logprobs);
    view(r.log_sums, result.log_sums);
    view(r.top_ids, result.top_ids);
    view(r.top_logits, result.top_logits);
    view(r.logits, result.logits);
    view(r.hidden, result.hidden);
    return result;
}

PackedResults::PackedResults(const Record::Results& from) : tensors_(from) {
    for (Tensor* t : {&tensors_.tokens, &tensors_.logprobs, &tensors_.log_sums, &tensors_.top_ids,
                      &tensors_.top_logits, &tensors_.logits, &tensors_.hidden}) {
        if (!*t) continue;
        CHECK(t->dense());
        copies_.emplace_back(*t, n_bytes_);
        t->offset = n_bytes_;
        n_bytes_ += (t->n_bytes() + alignment - 1) / alignment * alignment;
    }
}

size_t bytes_of(const AnyOp& any, const StepCounts& counts) {
    ByteCounter counter{counts};
    std::visit([&](const auto& op) { op.fields(op, counter); }, any);
    if (const auto* op = std::get_if<MatmulExperts>(&any)) {
        // A token's experts are read, not all of them.
        const auto chosen = static_cast<size_t>(rows_in(op->ids, counts) * op->ids.row_len());
        for (const MatmulExperts::Product& p : op->all()) {
            if (chosen < p.experts.size())
                counter.bytes -= (p.experts.size() - chosen) * p.experts[0]->n_bytes();
        }
    } else if (const auto* embed = std::get_if<Embed>(&any)) {
        counter.bytes -= embed->table->n_bytes();
        counter.bytes += embed->table->n_bytes() / static_cast<size_t>(embed->table->rows) *
                         static_cast<size_t>(rows_in(embed->out, counts));
    } else if (const auto* attention = std::get_if<Attention>(&any)) {
        const KvShape& s = attention->kv->shape();
        const int64_t seen = attention->window > 0 ? std::min<int64_t>(attention->window, counts.max_kv_len)
                                                   : counts.max_kv_len;
        counter.bytes += static_cast<size_t>(seen * counts.n_seqs) * s.token_bytes();
    }
    return counter.bytes;
}

double flops_of(const AnyOp& any, const StepCounts& counts) {
    const auto product = [&](const Tensor& out, const Weight& w) {
        return 2.0 * static_cast<double>(rows_in(out, counts)) * static_cast<double>(w.rows) *
               static_cast<double>(w.cols);
    };
    double n = 0;
    if (const auto* op = std::get_if<Matmul>(&any)) {
        for (const Matmul::Product& p : op->all()) n += product(p.out, *p.w);
    } else if (const auto* gated = std::get_if<GatedMatmul>(&any)) {
        n = product(gated->out, *gated->gate) + product(gated->out, *gated->up);
    } else if (const auto* experts = std::get_if<MatmulExperts>(&any)) {
        for (const MatmulExperts::Product& p : experts->all())
            n += product(p.out, *p.experts[0]) * static_cast<double>(experts->ids.row_len());
    } else if (const auto* heads = std::get_if<MatmulHeads>(&any)) {
        n = product(heads->out, *heads->heads[0]);
    } else if (const auto* attention = std::get_if<Attention>(&any)) {
        const KvShape& s = attention->kv->shape();
        n = 2.0 * static_cast<double>(counts.n_tokens) * static_cast<double>(attention->q.shape[1]) *
            static_cast<double>(counts.max_kv_len) * static_cast<double>(s.k_dim + s.v_dim);
    }
    return n;
}

}  // namespace smelt
