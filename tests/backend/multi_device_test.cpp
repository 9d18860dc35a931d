// Records on several reference backends at once against one: as partners within rounding, as a map bit for
// bit; and what happens when a device fails.
#include "backend/multi_device.h"

#include <gtest/gtest.h>

#include <atomic>

#include "backend/tiny_record.h"

namespace smelt {
namespace {

const std::vector<int32_t> prompt = {5, 17, 3, 20, 41, 9, 7};

std::unique_ptr<Backend> partners(int n) {
    return make_backend("reference", {.tensor_parallel = n});
}

struct Case {
    std::string name;
    TinyOptions options;
    std::vector<int> partners;
};

std::vector<Case> cases() {
    return {{"dense", {}, {2, 4}},
            {"ThreePartnersShareSixHeadsOfThree",
             {.n_heads = 6, .n_kv_heads = 3, .ffn_dim = 40, .vocab_size = 43},
             {3}},
            {"HeadsInUnequalShares", {.n_heads = 6, .n_kv_heads = 3}, {2}},
            {"FewerKvHeadsThanPartners", {.n_heads = 6, .n_kv_heads = 2}, {4}},
            {"MorePartnersThanHeads", {.n_heads = 4, .n_kv_heads = 2}, {8}},
            {"Sinks", {.n_heads = 8, .n_kv_heads = 2, .sinks = true}, {2, 4}},
            {"JoinedQkv", {.n_kv_heads = 4, .joined = true}, {2, 4}},
            {"Latent", {.latent = true, .sinks = true}, {2, 3, 4}},
            {"Experts", {.n_experts = 4}, {2, 4}},
            {"ExpertsInUnequalShares", {.n_heads = 3, .n_kv_heads = 3, .ffn_dim = 40, .n_experts = 4}, {3}},
            {"OneExpertEach", {.n_experts = 4, .n_used = 1}, {2}},
            {"TiedHead", {.tied = true}, {2, 4}},
            // A share of 48 columns is no whole block, a share of 24 none either: gathered, then cut again.
            {"BlocksDoNotFitTheRows", {.ffn_dim = 96, .down_format = Format::Q8_0}, {2}},
            {"BlocksOfExpertsDoNotFit", {.ffn_dim = 96, .n_experts = 4, .down_format = Format::Q8_0}, {2}},
            {"BlocksFit", {.ffn_dim = 128, .down_format = Format::Q4_0, .ffn_unit = 32}, {2, 4}},
            {"FewerBlocksThanPartners", {.ffn_dim = 64, .down_format = Format::Q8_0}, {4}}};
}

class PartnersOf : public testing::TestWithParam<Case> {};

TEST_P(PartnersOf, AgreeWithOneDevice) {
    const auto one = make_reference_backend();
    TinyRecord alone(*one, GetParam().options);
    const std::vector<float> expected = alone.feed(prompt, 0);
    for (const int n : GetParam().partners) {
        const auto several = partners(n);
        TinyRecord shared(*several, GetParam().options);
        const std::vector<float> got = shared.feed(prompt, 0);
        ASSERT_EQ(got.size(), expected.size());
        for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 2e-5f) << n << " at " << i;
        for (size_t i = 0; i < alone.hidden.size(); ++i) {
            ASSERT_NEAR(shared.hidden[i], alone.hidden[i], 2e-5f) << n << " at " << i;
        }
        EXPECT_EQ(shared.top_ids, alone.top_ids);
    }
}

TEST_P(PartnersOf, GiveTheSameBitsHoweverTheyAreFed) {
    for (const int n : GetParam().partners) {
        const auto several = partners(n);
        TinyRecord shared(*several, GetParam().options);
        const std::vector<float> whole = shared.feed(prompt, 0);
        EXPECT_EQ(shared.feed(prompt, 0), whole) << "again, " << n;
        std::vector<float> pieces;
        for (size_t i = 0; i < prompt.size(); ++i) {
            const std::vector<float> row = shared.feed({prompt[i]}, static_cast<int>(i));
            pieces.insert(pieces.end(), row.begin(), row.end());
        }
        EXPECT_EQ(pieces, whole) << "token by token, " << n;
        // The second sequence has the other's first token at its own place.
        const std::vector<float> two = shared.feed_two({prompt[6], prompt[0]}, {6, 0});
        const size_t vocab = two.size() / 2;
        EXPECT_TRUE(std::equal(two.begin(), two.begin() + static_cast<std::ptrdiff_t>(vocab),
                               whole.end() - static_cast<std::ptrdiff_t>(vocab)));
        EXPECT_TRUE(std::equal(two.end() - static_cast<std::ptrdiff_t>(vocab), two.end(), whole.begin()));
    }
}

INSTANTIATE_TEST_SUITE_P(All, PartnersOf, testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

// Only one partner draws; the others know the token all the same.
TEST(Partners, ADrawnTokenIsFedToAll) {
    const auto one = make_reference_backend(), two = partners(2);
    TinyRecord alone(*one, {}), shared(*two, {});
    (void)alone.feed(prompt, 0, true);
    (void)shared.feed(prompt, 0, true);
    ASSERT_EQ(shared.tokens, alone.tokens);
    const int32_t last = -1 - 6;
    const std::vector<float> expected = alone.feed({alone.tokens[6]}, 7), got = shared.feed({last}, 7);
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], expected[i], 2e-5f);
    (void)shared.feed(prompt, 0, true);
    EXPECT_EQ(shared.feed({shared.tokens[6]}, 7), got);
}

// launch() returns before the step is done, and takes a second one.
TEST(Partners, AStepIsLaunchedBeforeTheOneBeforeItIsCollected) {
    const auto two = partners(2);
    TinyRecord shared(*two, {});
    (void)shared.feed(prompt, 0, true);
    const std::vector<int32_t> tokens = shared.tokens;
    const std::vector<float> expected = shared.feed({-1 - 6}, 7);
    for (int i = 0; i < 20; ++i) {
        EXPECT_EQ(shared.feed_ahead(prompt, 0), expected);
        EXPECT_EQ(shared.tokens, tokens);
    }
}

// Blocks are those of one device, whatever the partners have of them.
TEST(Partners, KvBlocksAreWhole) {
    for (const bool latent : {false, true}) {
        for (const int n : {2, 4}) {
            const TinyOptions options{.n_layers = 1, .n_kv_heads = 2, .latent = latent};
            const auto one = make_reference_backend(), several = partners(n);
            TinyRecord alone(*one, options), shared(*several, options);
            (void)alone.feed(prompt, 0);
            const std::vector<float> before = shared.feed(prompt, 0);
            const size_t bytes = alone.kv()[0]->shape().block_bytes();
            ASSERT_EQ(shared.kv()[0]->shape().block_bytes(), bytes);
            std::vector<std::byte> expected(bytes), got(bytes), kept(bytes);
            alone.kv()[0]->read_block(0, expected);
            shared.kv()[0]->read_block(0, got);
            for (size_t i = 0; i < bytes / sizeof(float); ++i) {
                EXPECT_NEAR(reinterpret_cast<const float*>(got.data())[i],
                            reinterpret_cast<const float*>(expected.data())[i], 1e-5f);
            }
            // Out and in again: the last token sees what it saw.
            kept = got;
            std::ranges::fill(got, std::byte{0});
            shared.kv()[0]->write_block(0, got);
            const std::vector<float> other = shared.feed({prompt[6]}, 6);
            shared.kv()[0]->write_block(0, kept);
            const std::vector<float> again = shared.feed({prompt[6]}, 6);
            EXPECT_NE(other, again);
            EXPECT_TRUE(std::equal(again.begin(), again.end(),
                                   before.end() - static_cast<std::ptrdiff_t>(again.size())));
            const BlockPair copies[] = {{0, 8}, {8, 9}};
            shared.kv()[0]->copy_blocks(copies);
            shared.kv()[0]->read_block(9, got);
            EXPECT_EQ(got, kept);
        }
    }
}

std::string error_of(auto f) {
    try {
        f();
    } catch (const std::exception& e) {
        return e.what();
    }
    return "no error";
}

TEST(Partners, WrongNumbersAreNamed) {
    EXPECT_EQ(error_of([] { (void)partners(0); }), "tensor parallelism: expected 1 to 32 partners, found 0");
    EXPECT_EQ(error_of([] { (void)partners(33); }),
              "tensor parallelism: expected 1 to 32 partners, found 33");
    EXPECT_EQ(error_of([] {
                  const auto three = partners(3);
                  TinyRecord(*three, {.n_heads = 4, .n_kv_heads = 2});
              }),
              "tensor parallelism: layer 0 has 2 KV heads: expected at most as many partners or a multiple "
              "of them, found 3");
    EXPECT_EQ(error_of([] { (void)make_backend("reference,1=reference", {.tensor_parallel = 2}); }),
              "tensor parallelism: expected one device, found the map reference,1=reference");
}

TEST(Map, GivesTheBitsOfOneDevice) {
    for (const Case& c : cases()) {
        const auto one = make_reference_backend();
        TinyRecord alone(*one, c.options);
        const std::vector<float> expected = alone.feed(prompt, 0, true);
        std::vector<std::string> maps = {"reference,1=auto", "reference,0=auto", "0=reference,1=auto",
                                         "reference,0-=auto"};
        if (c.options.n_experts > 0)
            maps.insert(maps.end(), {"reference,experts=auto", "auto,1=cpu,experts=reference"});
        for (const std::string& map : maps) {
            const auto several =
                make_mapped_backend(map, [](const std::string&) { return make_reference_backend(); });
            TinyRecord shared(*several, c.options);
            EXPECT_EQ(shared.feed(prompt, 0, true), expected) << c.name << " " << map;
            EXPECT_EQ(shared.tokens, alone.tokens);
            EXPECT_EQ(shared.hidden, alone.hidden);
            EXPECT_EQ(shared.feed({-1 - 6}, 7), alone.feed({-1 - 6}, 7)) << c.name << " " << map;
            (void)alone.feed(prompt, 0, true);
        }
    }
}

TEST(Map, EntriesWithoutWeightsAreNamed) {
    EXPECT_EQ(error_of([] {
                  const auto b = make_backend("reference,7-9=auto");
                  TinyRecord(*b, {});
              }),
              "device map: 7-9=auto: the model has no such layers");
    EXPECT_EQ(error_of([] {
                  const auto b = make_backend("reference,experts=auto");
                  TinyRecord(*b, {});
              }),
              "device map: experts=auto: the model has no such weights");
}

// A reference backend that fails when told to, and counts its steps.
class Failing : public Backend {
 public:
    struct Switch {
        std::atomic<bool> at_launch{false}, at_collect{false};
        std::atomic<int> under_way{0};
    };
    explicit Failing(Switch& s) : s_(s) {}
    std::string_view name() const override { return "failing"; }
    std::string description() const override { return ""; }
    uint64_t available_memory() const override { return be_->available_memory(); }
    Weight load(const WeightView& v, const WeightRole& r) override { return be_->load(v, r); }
    std::unique_ptr<KvStorage> allocate_kv(const KvShape& s) override { return be_->allocate_kv(s); }
    std::unique_ptr<Program> compile(const Record& r) override { return be_->compile(r); }
    void launch(Program& p, const StepInput& input) override {
        if (s_.at_launch) throw Error("the device is gone");
        ++s_.under_way;
        be_->launch(p, input);
    }
    StepResult collect() override {
        const StepResult result = be_->collect();
        --s_.under_way;
        if (s_.at_collect) throw Error("the device has failed");
        return result;
    }
    void write(const Tensor& t, const void* bytes) override { be_->write(t, bytes); }
    void read(const Tensor& t, void* bytes) override { be_->read(t, bytes); }

 private:
    Switch& s_;
    std::unique_ptr<Backend> be_ = make_reference_backend();
};

TEST(Partners, AnErrorEndsTheStepOnAll) {
    Failing::Switch s[3];
    std::vector<std::unique_ptr<Backend>> devices;
    for (Failing::Switch& one : s) devices.push_back(std::make_unique<Failing>(one));
    const auto three = make_partners(std::move(devices));
    TinyRecord shared(*three, {.n_heads = 3, .n_kv_heads = 3});
    const std::vector<float> expected = shared.feed(prompt, 0);
    for (const int d : {0, 1, 2}) {
        s[d].at_launch = true;
        EXPECT_EQ(error_of([&] { (void)shared.feed(prompt, 0); }), "the device is gone");
        s[d].at_launch = false;
        s[d].at_collect = true;
        EXPECT_EQ(error_of([&] { (void)shared.feed(prompt, 0); }), "the device has failed");
        s[d].at_collect = false;
        for (Failing::Switch& one : s) EXPECT_EQ(one.under_way, 0);
        EXPECT_EQ(shared.feed(prompt, 0), expected) << "after device " << d;
    }
}

}  // namespace
}  // namespace smelt
