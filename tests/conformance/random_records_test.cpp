// Random records of one op and of several against the reference; the seeds are the same every time.
#include "backend/check/op_check.h"
#include "conformance/rig.h"

namespace smelt {
namespace {

TEST(RandomRecords, EveryOpAlone) {
    for (const Device& d : devices()) {
        for (const std::string_view op : op_names()) {
            if (!may_have(d.backend->describe().fusions, op)) continue;
            for (uint64_t seed = 0; seed < 12; ++seed) {
                ASSERT_EQ(check_random_record(*d.backend, reference(), {.op = op}, Choices(seed)), "")
                    << d.label << " " << op << ", seed " << seed;
            }
        }
    }
}

TEST(RandomRecords, OpsInARow) {
    for (const Device& d : devices()) {
        for (uint64_t seed = 0; seed < 60; ++seed) {
            ASSERT_EQ(check_random_record(*d.backend, reference(), {.n_ops = 7}, Choices(seed)), "")
                << d.label << ", seed " << seed;
        }
    }
}

// The check itself: a device that is wrong in one place is found.
class Wrong : public Backend {
 public:
    explicit Wrong(Backend& right) : right_(right) {}
    std::string_view name() const override { return "wrong"; }
    std::string description() const override { return "wrong"; }
    uint64_t available_memory() const override { return right_.available_memory(); }
    Weight load(const WeightView& view, const WeightRole& role) override { return right_.load(view, role); }
    std::unique_ptr<KvStorage> allocate_kv(const KvShape& shape) override {
        return right_.allocate_kv(shape);
    }
    std::unique_ptr<Program> compile(const Record& record) override { return right_.compile(record); }
    void launch(Program& program, const StepInput& input) override { right_.launch(program, input); }
    StepResult collect() override { return right_.collect(); }
    void write(const Tensor& t, const void* bytes) override { right_.write(t, bytes); }
    // One bit of the last tensor is another.
    void read(const Tensor& t, void* bytes) override {
        right_.read(t, bytes);
        if (t.buffer == wrong_buffer) static_cast<uint8_t*>(bytes)[2] ^= 0x80;
    }
    int wrong_buffer = -1;

 private:
    Backend& right_;
};

TEST(RandomRecords, AWrongDeviceIsFound) {
    Wrong device(reference());
    const Choices choices(3);
    const RandomRecordOptions options{.op = "Rope"};
    EXPECT_EQ(check_random_record(device, reference(), options, choices), "");
    for (int b = 0; b < 2; ++b) {
        device.wrong_buffer = b;
        EXPECT_NE(check_random_record(device, reference(), options, choices), "") << "buffer " << b;
    }
}

}  // namespace
}  // namespace smelt
