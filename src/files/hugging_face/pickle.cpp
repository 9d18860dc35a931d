// The stack machine of pickle's protocol 2, with the opcodes that torch.save makes of tensors in dictionaries
// (Python's pickletools names them). Values lie in one table and refer to each other by number: however deep
// they are nested, nothing here recurses, and time and memory grow with the number of opcodes alone.
#include "files/hugging_face/pickle.h"

#include <optional>
#include <string>

#include "files/limits.h"
#include "files/readers.h"

namespace smelt {

namespace {

using Kind = PickleValue::Kind;

constexpr std::string_view ordered_dict = "collections\nOrderedDict";

class Unpickler {
 public:
    Unpickler(ByteReader& in, bool (*is_known_global)(std::string_view))
        : in_(in), is_known_global_(is_known_global) {}

    Pickle run() {
        for (uint64_t step = 0; step < limits::pickle_opcodes; ++step) {
            at_ = in_.position();
            const auto opcode = in_.read<uint8_t>("pickle");
            if (opcode == '.') {
                result_.root = pop();
                if (!stack_.empty() || !marks_.empty()) fail("values are left on the stack at the end");
                return std::move(result_);
            }
            perform(opcode);
        }
        throw Error("{}: pickle: more than {} opcodes", in_.source(), limits::pickle_opcodes);
    }

 private:
    [[noreturn]] void fail(const std::string& what) const {
        throw Error("{}: offset {}: pickle: {}", in_.source(), at_, what);
    }

    void push(PickleValue value) {
        result_.values.push_back(std::move(value));
        stack_.push_back(static_cast<uint32_t>(result_.values.size() - 1));
    }
    void push_integer(int64_t value, Kind kind = Kind::integer) { push({.kind = kind, .integer = value}); }

    // What lies below the last mark belongs to someone else.
    void need(size_t n) const {
        if (stack_.size() - (marks_.empty() ? 0 : marks_.back()) < n) fail("a value is missing on the stack");
    }
    uint32_t top() const {
        need(1);
        return stack_.back();
    }
    uint32_t pop() {
        const uint32_t value = top();
        stack_.pop_back();
        return value;
    }
    std::vector<uint32_t> pop_last(size_t n) {
        need(n);
        std::vector<uint32_t> items(stack_.end() - static_cast<ptrdiff_t>(n), stack_.end());
        stack_.resize(stack_.size() - n);
        return items;
    }
    std::vector<uint32_t> pop_to_mark() {
        if (marks_.empty()) fail("a mark is missing on the stack");
        const size_t n = stack_.size() - marks_.back();
        auto items = pop_last(n);
        marks_.pop_back();
        return items;
    }

    void push_text(uint64_t n) {
        const auto bytes = in_.take(n, "text of a pickle");
        push({.kind = Kind::text, .text = {reinterpret_cast<const char*>(bytes.data()), bytes.size()}});
    }

    // Little-endian two's complement of any length.
    void push_long() {
        const auto n = in_.read<uint8_t>("length of an integer");
        const auto bytes = in_.take(n, "integer of a pickle");
        if (n > 8) fail(fmt::format("integer of {} bytes, at most 8 are accepted", n));
        uint64_t value = n > 0 && (bytes[n - 1u] & std::byte{0x80}) != std::byte{0} ? ~uint64_t{0} : 0;
        for (size_t i = n; i-- > 0;) value = value << 8 | std::to_integer<uint64_t>(bytes[i]);
        push_integer(static_cast<int64_t>(value));
    }

    std::string_view read_line() {
        const char* begin = nullptr;
        for (size_t n = 0; n <= limits::tensor_name_bytes; ++n) {
            const auto* c = reinterpret_cast<const char*>(in_.take(1, "global of a pickle").data());
            if (n == 0) begin = c;
            if (*c == '\n') return {begin, n};
        }
        fail("the name of a global is too long");
    }

    void push_global() {
        const std::string_view module = read_line(), name = read_line();
        const std::string_view both(module.data(), module.size() + 1 + name.size());
        if (both != ordered_dict && !is_known_global_(both)) {
            const std::string shown = check_name(fmt::format("{}.{}", module, name), "global", in_.source());
            fail(
                fmt::format("expected nothing but tensors in dictionaries, found {}; smelt runs no code from "
                            "a pickle",
                            shown));
        }
        push({.kind = Kind::global, .text = both});
    }

    void reduce() {
        const std::vector<uint32_t> call = pop_last(2);
        const PickleValue &function = result_.values[call[0]], &arguments = result_.values[call[1]];
        if (function.kind != Kind::global || arguments.kind != Kind::tuple) {
            fail("expected a call of a global with a tuple");
        }
        if (function.text != ordered_dict) return push({.kind = Kind::call, .items = call});
        if (!arguments.items.empty()) fail("expected an empty OrderedDict");
        push({.kind = Kind::dict});
    }

    // Attributes of the value below them; state_dict()'s are versions of modules.
    void build() {
        need(2);
        pop();
        if (result_.values[top()].kind != Kind::dict) fail("expected attributes of an OrderedDict");
    }

    void extend(Kind kind, const std::vector<uint32_t>& items) {
        PickleValue& target = result_.values[top()];
        if (target.kind != kind) fail(kind == Kind::dict ? "expected a dictionary" : "expected a list");
        if (kind == Kind::dict && items.size() % 2 != 0) fail("a key without a value");
        target.items.insert(target.items.end(), items.begin(), items.end());
    }

    void put(uint64_t place) {
        if (place >= limits::pickle_memo) {
            fail(fmt::format("memo has {} places, found place {}", limits::pickle_memo, place));
        }
        if (place >= memo_.size()) memo_.resize(place + 1);
        memo_[place] = top();
    }
    void get(uint64_t place) {
        if (place >= memo_.size() || !memo_[place]) fail(fmt::format("place {} of the memo is empty", place));
        stack_.push_back(*memo_[place]);
    }

    void perform(uint8_t opcode) {
        switch (opcode) {
            case 0x80:  // PROTO
                if (const auto version = in_.read<uint8_t>("protocol"); version != 2) {
                    fail(fmt::format("expected protocol 2, found {}", version));
                }
                return;
            case '(':  // MARK
                return marks_.push_back(stack_.size());
            case 'N':  // NONE
                return push({});
            case 0x88:  // NEWTRUE
                return push_integer(1, Kind::boolean);
            case 0x89:  // NEWFALSE
                return push_integer(0, Kind::boolean);
            case 'J':  // BININT
                return push_integer(in_.read<int32_t>("integer"));
            case 'K':  // BININT1
                return push_integer(in_.read<uint8_t>("integer"));
            case 'M':  // BININT2
                return push_integer(in_.read<uint16_t>("integer"));
            case 0x8a:  // LONG1
                return push_long();
            case 'G':  // BINFLOAT; no tensor depends on its value
                in_.take(8, "real number");
                return push({.kind = Kind::real});
            case 'X':  // BINUNICODE
            case 'T':  // BINSTRING
                return push_text(in_.read<uint32_t>("length of a text"));
            case 'U':  // SHORT_BINSTRING
                return push_text(in_.read<uint8_t>("length of a text"));
            case ')':  // EMPTY_TUPLE
                return push({.kind = Kind::tuple});
            case 0x85:  // TUPLE1, TUPLE2, TUPLE3
            case 0x86:
            case 0x87:
                return push({.kind = Kind::tuple, .items = pop_last(opcode - 0x84u)});
            case 't':  // TUPLE
                return push({.kind = Kind::tuple, .items = pop_to_mark()});
            case ']':  // EMPTY_LIST
                return push({.kind = Kind::list});
            case 'a':  // APPEND
                return extend(Kind::list, pop_last(1));
            case 'e':  // APPENDS
                return extend(Kind::list, pop_to_mark());
            case '}':  // EMPTY_DICT
                return push({.kind = Kind::dict});
            case 's':  // SETITEM
                return extend(Kind::dict, pop_last(2));
            case 'u':  // SETITEMS
                return extend(Kind::dict, pop_to_mark());
            case 'c':  // GLOBAL
                return push_global();
            case 'R':  // REDUCE
                return reduce();
            case 'b':  // BUILD
                return build();
            case 'Q':  // BINPERSID
                return push({.kind = Kind::persistent, .items = pop_last(1)});
            case 'q':  // BINPUT
                return put(in_.read<uint8_t>("place in the memo"));
            case 'r':  // LONG_BINPUT
                return put(in_.read<uint32_t>("place in the memo"));
            case 'h':  // BINGET
                return get(in_.read<uint8_t>("place in the memo"));
            case 'j':  // LONG_BINGET
                return get(in_.read<uint32_t>("place in the memo"));
            default:
                fail(fmt::format("opcode 0x{:02x} is not accepted", opcode));
        }
    }

    ByteReader& in_;
    bool (*is_known_global_)(std::string_view);
    uint64_t at_ = 0;
    Pickle result_;
    std::vector<uint32_t> stack_;
    std::vector<size_t> marks_;  // heights of the stack
    std::vector<std::optional<uint32_t>> memo_;
};

}  // namespace

Pickle read_pickle(ByteReader& in, bool (*is_known_global)(std::string_view)) {
    return Unpickler(in, is_known_global).run();
}

}  // namespace smelt
