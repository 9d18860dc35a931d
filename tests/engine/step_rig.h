// A step loop over the fake model, with what came out.
#pragma once

#include <map>

#include "engine/fake_runner.h"
#include "engine/step_loop.h"

namespace smelt {

struct Answer {
    std::vector<int32_t> ids;
    std::vector<float> logprobs, prompt_logprobs;
    std::vector<FinishEvent> finish;  // one in the end
    int first_step = -1, last_step = -1;
};

// Steps that the device of a Rig has under way at once, where its shape does not say.
inline int max_steps = 1;

inline RunnerShape with_max_steps(RunnerShape shape) {
    shape.max_steps = std::max(shape.max_steps, max_steps);
    return shape;
}

struct Rig {
    FakeRunner runner;
    StepLoop loop;
    std::map<std::pair<RequestId, int>, Answer> answers;
    std::vector<RequestId> finished;  // in order
    RequestId last_id = 0;
    int n_steps = 0;

    Rig(const RunnerShape& shape, const SchedulerOptions& options, const DraftOptions& drafts = {},
        ModelRunner* draft = nullptr)
        : runner(with_max_steps(shape), options.max_batch_tokens), loop(runner, options, drafts, draft) {}

    RequestId add(Request r, RequestId id = 0) {
        if (id == 0) id = ++last_id;
        r.sink = [this](Event event) { take(std::move(event)); };
        EXPECT_EQ(check_request(r, loop.limits()), "");
        const uint64_t seed = r.sampling.seed.value_or(0);
        loop.add(id, std::make_shared<const Request>(std::move(r)), seed, {});
        return id;
    }
    void take(Event event) {
        if (auto* token = std::get_if<TokenEvent>(&event)) {
            Answer& a = answers[{token->request, token->index}];
            EXPECT_TRUE(a.finish.empty());
            if (token->of_prompt) {
                EXPECT_TRUE(a.ids.empty());
                a.prompt_logprobs.push_back(token->logprob);
                return;
            }
            if (a.ids.empty()) a.first_step = n_steps;
            a.ids.push_back(token->id);
            a.logprobs.push_back(token->logprob);
        } else {
            const FinishEvent& f = std::get<FinishEvent>(event);
            Answer& a = answers[{f.request, f.index}];
            EXPECT_TRUE(a.finish.empty());
            a.finish.push_back(f);
            a.last_step = n_steps;
            finished.push_back(f.request);
        }
    }
    void step() {
        ++n_steps;
        loop.step();
        loop.flush();
        loop.check();
    }
    void run() {
        while (!loop.idle()) {
            step();
            ASSERT_LT(n_steps, 100000);
        }
    }
    const Answer& answer(RequestId id, int index = 0) { return answers[{id, index}]; }
};

}  // namespace smelt
