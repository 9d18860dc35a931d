// Several devices as one: which of them runs each op of a record, and what moves between them. A pass over
// the record, whose result is data; multi_device.cpp runs it. Two ways:
//   a map        every weight and KV layer is on one device; an op runs where its weights or its KV layer
//                are, one without weights where most of its input is
//   partners     tensor parallelism: all devices run every op, each with its share of the weights that are
//                cut. A tensor is whole on all of them, cut (a share each, at the same place in the
//                workspace), or one of several that must be summed
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "backend/kv_storage.h"
#include "backend/record.h"
#include "backend/split.h"

namespace smelt {

using DeviceMask = uint32_t;  // bit d: device d
inline constexpr int max_devices = 32;

// What the weights of a record have as storage.
struct PlacedWeight : Storage {
    std::vector<Weight> on;  // by device: all of it, its share, or nothing
    CutBy by = CutBy::none;
    Split split = {};           // of its rows or columns
    std::vector<Weight> whole;  // of an embedding that is cut: what Embed reads, by device
};

// Whether and how the heads of a KV layer lie on several devices. PlacedKv in placed_kv.h is the storage.
class PlacedKv;

struct Devices {
    int n = 1;
    bool partners = false;
    int rest = 0;  // of a map: where ops go that have neither weights nor input
    // The share of a vector (a bias, the sinks of heads): each of its rows, cut as `split` says. It lives as
    // long as the vector.
    std::function<const Weight*(const Weight& vector, const Split& split, int device)> vector_share = {};
};

// All rows of a tensor, from one device to others.
struct Transfer {
    Tensor tensor;
    int from = 0;
    DeviceMask to = 0;
};
// The sum of all partners' tensors, in the order of their ranks, in float; all get it.
struct AllReduce {
    Tensor tensor;
};
// A tensor that is cut, put together.
struct AllGather {
    Tensor tensor;  // whole
    Split split;    // of a line: the numbers of rows_each rows
    DeviceMask to = 0;
};
using Move = std::variant<Transfer, AllReduce, AllGather>;

// What the devices do at the same time, and what moves once all are done.
struct Phase {
    std::vector<Record> parts;  // by device; without results, some without ops
    std::vector<Move> moves;    // in order
};

struct Placement {
    int n_partners = 1;  // that cut tensors are shared by
    std::vector<Phase> phases = {};
    std::vector<int> holder = {};  // by buffer: a device that has all of it at the end; -1: none has

    // "phase 0", "device 1", the ops as Record::print() has them, "AllReduce [4 tokens, 64]".
    std::string print() const;
};

// Throws Error naming what the partners cannot share.
Placement place(const Record& record, const Devices& devices);

// What one partner has of a tensor that is cut: the same offset, fewer columns.
Tensor share_of(const Tensor& whole, const Split& split, int partner, int n_partners);

}  // namespace smelt
