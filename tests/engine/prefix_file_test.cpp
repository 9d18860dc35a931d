// Prefixes that survive a restart: what a second engine finds is what the first one computed, to the bit, and
// a file that is not whole is worth nothing.
#include "engine/prefix_file.h"

#include <sys/stat.h>

#include <algorithm>

#include "engine/device_runner.h"
#include "engine/engine.h"
#include "engine/step_loop.h"
#include "files/files_support.h"

namespace smelt {
namespace {

struct Case {
    std::string model, kv;
};

struct Answer {
    std::vector<int32_t> ids;
    std::vector<float> logprobs;
    int n_cached = 0;
};

constexpr int block_len = 4;

std::vector<int32_t> text(int n, int seed) {
    std::vector<int32_t> ids;
    for (int i = 0; i < n; ++i) ids.push_back((i * i + 7 * i + seed) % 50);
    return ids;
}

// A device with one engine's cache: as a process between two restarts.
class Life {
 public:
    Life(const Case& c, int n_blocks = 64, int n_seqs = 8)
        : backend_(make_backend("cpu", {.n_threads = 1})),
          model_(load_model(open_model(SMELT_TEST_DATA "/goldens/" + c.model), *backend_)) {
        const SchedulerOptions scheduler{.max_seqs = n_seqs, .max_batch_tokens = 10};
        const int window = static_cast<int>(model_->config().window);
        const int n_parts = window == 0 ? 0 : window_parts_for(window, block_len, n_seqs, 2 * 10);
        runner_ = std::make_unique<DeviceRunner>(*model_, *backend_,
                                                 DeviceRunnerOptions{.n_ctx = 128,
                                                                     .n_blocks = n_blocks,
                                                                     .block_len = block_len,
                                                                     .kv = parse_kv_formats(c.kv),
                                                                     .n_window_parts = n_parts});
        loop_ = std::make_unique<StepLoop>(*runner_, scheduler);
    }
    StepLoop& loop() { return *loop_; }

    Answer ask(const std::vector<int32_t>& ids, uint64_t salt = 0) {
        Answer answer;
        auto request = std::make_shared<Request>();
        request->tokens = ids;
        request->sampling.temperature = 0;
        request->max_tokens = 6;
        request->n_logprobs = 0;
        request->cache_salt = salt;
        request->sink = [&](Event e) {
            if (const auto* token = std::get_if<TokenEvent>(&e)) {
                answer.ids.push_back(token->id);
                answer.logprobs.push_back(token->logprob);
            } else {
                answer.n_cached = std::get<FinishEvent>(e).n_cached_prompt;
            }
        };
        loop_->add(1, request, 1, {});
        while (!loop_->idle()) loop_->step();
        loop_->check();
        return answer;
    }

 private:
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
    std::unique_ptr<DeviceRunner> runner_;
    std::unique_ptr<StepLoop> loop_;
};

class PrefixFiles : public testing::TestWithParam<Case> {
 protected:
    PrefixFile file() const { return {folder_.path() / "m.kv", "me"}; }
    TemporaryFolder folder_;
};

TEST_P(PrefixFiles, SurviveARestart) {
    const std::vector<int32_t> one = text(41, 1), two = text(30, 2);
    Answer first, second, salted;
    {
        Life before(GetParam());
        first = before.ask(one);
        second = before.ask(two);
        salted = before.ask(two, 77);
        EXPECT_EQ(salted.n_cached, 0);
        before.loop().save_prefixes(file());
    }
    struct stat info {};
    ASSERT_EQ(::stat(file().path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600u);

    Life after(GetParam());
    after.loop().load_prefixes(file());
    after.loop().check();
    for (const auto& [ids, salt, expected] :
         {std::tuple(one, 0, first), std::tuple(two, 0, second), std::tuple(two, 77, salted)}) {
        const Answer again = after.ask(ids, static_cast<uint64_t>(salt));
        EXPECT_EQ(again.ids, expected.ids);
        EXPECT_EQ(again.logprobs, expected.logprobs);
        EXPECT_GE(again.n_cached, 28);
    }
    EXPECT_EQ(after.ask(one, 78).n_cached, 0);
}

// The last used is what a smaller cache takes.
TEST_P(PrefixFiles, ASmallerCacheTakesWhatItCan) {
    const std::vector<int32_t> one = text(41, 1), two = text(30, 2);
    {
        Life before(GetParam());
        before.ask(one);
        before.ask(two);
        before.loop().save_prefixes(file());
    }
    Life after(GetParam(), 12, 1);
    const Answer expected = Life(GetParam()).ask(two);
    after.loop().load_prefixes(file());
    after.loop().check();
    const Answer again = after.ask(two);
    EXPECT_EQ(again.logprobs, expected.logprobs);
    // A pool for one sequence has room for six states of recurrent layers, one a block.
    EXPECT_GE(again.n_cached, GetParam().model == "qwen3.5" ? 24 : 28);
}

TEST_P(PrefixFiles, DamagedOnesAreWorthNothing) {
    const std::vector<int32_t> ids = text(41, 1);
    Answer expected;
    {
        Life before(GetParam());
        expected = before.ask(ids);
        before.loop().save_prefixes(file());
    }
    const std::string good = read_file(file().path);
    for (size_t i = 0; i < 60; ++i) {
        const size_t at = i < 20 ? i * 4 : good.size() * i / 60;
        std::string bad = good;
        bad[at] = static_cast<char>(bad[at] ^ 0x41);
        write_file(file().path, i % 3 == 0 ? bad.substr(0, at) : bad);
        Life after(GetParam());
        after.loop().load_prefixes(file());
        after.loop().check();
        EXPECT_EQ(after.loop().stats().n_cached_blocks, 0) << at;
        if (i % 10 == 0) {
            EXPECT_EQ(after.ask(ids).logprobs, expected.logprobs) << at;
        }
    }
}

TEST_P(PrefixFiles, OfAnotherOwnerAreNotRead) {
    {
        Life before(GetParam());
        before.ask(text(41, 1));
        before.loop().save_prefixes(file());
    }
    Life after(GetParam());
    after.loop().load_prefixes({file().path, "another"});
    EXPECT_EQ(after.ask(text(41, 1)).n_cached, 0);
}

TEST_P(PrefixFiles, AFullDiskLeavesTheFileBefore) {
    write_file(file().path, "before");
    Life life(GetParam());
    life.ask(text(41, 1));
    life.loop().save_prefixes({"/dev/null/no-folder/m.kv", "me"});
    life.loop().save_prefixes({folder_.path() / "nowhere" / "m.kv", "me"});
    EXPECT_EQ(read_file(file().path), "before");
}

// Windows, values inside keys, blocks of numbers: whatever a block can be.
INSTANTIATE_TEST_SUITE_P(Models, PrefixFiles,
                         testing::Values(Case{"qwen3", "f16"}, Case{"qwen3", "k=q8_0,v=q4_0"},
                                         Case{"gpt-oss", "f16"}, Case{"glm4-moe-lite", "f32"},
                                         Case{"qwen3.5", "f16"}),
                         [](const auto& c) {
                             std::string name = c.param.model + "_" + c.param.kv.substr(0, 3);
                             std::ranges::replace_if(
                                 name, [](unsigned char x) { return std::isalnum(x) == 0; }, '_');
                             return name;
                         });

}  // namespace
}  // namespace smelt
