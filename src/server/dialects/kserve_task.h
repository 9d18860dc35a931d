// A KServe question on its way to tensors, for callers that are no HTTP clients: gRPC, and Triton's backend.
#pragma once

#include "server/dialects/kserve_request.h"
#include "server/routes.h"

namespace smelt {

class Answer;

struct KserveResponse {
    std::vector<KserveTensor> outputs;  // those that were asked for
    bool is_last = false;
};

// Its functions are called on the thread of `post`, one at a time, until the last response or a failure.
struct KserveCaller {
    std::function<void(std::function<void()>)> post;
    std::function<void(KserveResponse)> respond;
    std::function<void(const ApiError&)> fail;
};

class KserveTask {
 public:
    struct Options {
        bool streams = false;  // where the question does not say; a piece of the text with each response
        std::string key = {};  // of who asks
        WorkerTurn turn = {.may_take_long = true};
        std::shared_ptr<AccessRecord> record = {};
    };

    // Renders and tokenizes, which takes a while: not on the thread of `post`. Throws RequestError. What it
    // is about happens on the thread of `post` by itself.
    KserveTask(ServerContext& server, KserveQuestion question, Options options, KserveCaller caller);

    // On the thread of `post`, from none of the functions: the caller hears nothing more.
    void cancel();

 private:
    class Place;
    std::shared_ptr<Place> place_;
};

// The jobs of a question, a row each. Throws RequestError.
std::vector<JobSpec> kserve_jobs(ServerContext& server, const KserveQuestion& question,
                                 const std::string& key, const WorkerTurn& turn);

}  // namespace smelt
