// Where the contents of each buffer are while placement walks through a record, and the phases that this
// makes: whoever needs a buffer whole gets the move for it. Knows views and shares, nothing of ops.
#pragma once

#include <optional>
#include <vector>

#include "backend/placement.h"

namespace smelt {

// How partners share a view: the columns of each of its rows, or the rows_each rows of each line.
struct ViewCut {
    bool by_rows = false;
    Split split;
    bool same(const ViewCut& other, int n_partners) const {
        return by_rows == other.by_rows && split.same(other.split, n_partners);
    }
};

class PlacedBuffers {
 public:
    PlacedBuffers(const Record& record, const Devices& devices);

    int n_partners() const { return devices_.partners ? devices_.n : 1; }
    DeviceMask all() const { return (DeviceMask{1} << (devices_.n - 1) << 1) - 1; }

    // The devices that have all of it; none where it is cut or not summed yet, all where it was never
    // written.
    DeviceMask holders(const Tensor& t) const;
    // How the partners share the view; nothing where it is whole, or across the shares.
    std::optional<ViewCut> cut_of(const Tensor& t) const;
    // Whether an op may write the view in shares.
    bool can_cut(const Tensor& t, const ViewCut& cut) const;
    // The view as it lies on the device.
    Tensor on(const Tensor& t, int device) const;
    // The device's share of the columns of a whole tensor; nothing where no view can show it.
    std::optional<Tensor> own_columns(const Tensor& t, const Split& split, int device) const;

    bool is_terms(const Tensor& t) const;  // to be summed
    bool whole_buffer(const Tensor& t) const { return state_of(t) != nullptr && covers(t); }
    void need_sum(const Tensor& t);
    void need_whole(const Tensor& t, DeviceMask on);
    // What is about to be written; of a part of a buffer that holds something, the rest comes first.
    void write_whole(const Tensor& t, DeviceMask on);
    void write_cut(const Tensor& t, const ViewCut& cut);
    void write_terms(const Tensor& t);  // to be summed

    void add(int device, const AnyOp& op);
    // Lists live as long as the parts of the placement.
    WeightList keep(std::vector<const Weight*> list) { return base_.keep(std::move(list)); }
    // Room for as many numbers as t has, until the next op but one.
    Tensor scratch(const Tensor& t);

    Placement finish() &&;

 private:
    enum class Kind : uint8_t { unwritten, whole, cut, terms };
    struct State {
        Kind kind = Kind::unwritten;
        DeviceMask on = 0;
        Split split = {};
    };
    struct Work {
        explicit Work(int n_devices) : ops(static_cast<size_t>(n_devices)) {}
        std::vector<std::vector<AnyOp>> ops;  // by device
        std::vector<Move> moves;
    };

    State* state_of(const Tensor& t);
    const State* state_of(const Tensor& t) const;
    const Tensor& buffer_of(const Tensor& t) const { return buffers_[static_cast<size_t>(t.buffer)]; }
    bool covers(const Tensor& t) const;
    // The split of a line that makes the view cut so; nothing where none does.
    std::optional<Split> line_split(const Tensor& t, const ViewCut& cut) const;
    int64_t first_column(const Tensor& t) const;

    const Devices& devices_;
    std::vector<Tensor> buffers_;
    Record base_;  // the parts without their ops
    std::vector<State> states_;
    std::vector<Work> phases_;
};

}  // namespace smelt
