// From a typed request to what an engine is asked for.
#pragma once

#include "server/dialects/constraints.h"
#include "server/models/job.h"

namespace smelt {

struct ServerContext;

// The model that a request names, or auto chooses.
ModelUse choose_model(ServerContext& server, const ChatRequest& request, const std::string& key);
// What the request's field lora says, else what comes with the name of the model. Throws RequestError naming
// the known ones.
std::vector<AdapterUse> adapters_of(const ModelUse& model, const ChatRequest& request);
// Throws RequestError: template_error, context_length_exceeded, invalid_schema, or what choose_model() says;
// and TakesLong, where that is not its turn.
JobSpec make_job(ServerContext& server, ChatRequest request, const std::string& key, const WorkerTurn& turn,
                 const SchemaNames& names = {});
// One for each prompt, with the options of one request.
std::vector<JobSpec> make_jobs(ServerContext& server, const ChatRequest& request,
                               const std::vector<PlainPrompt>& prompts, bool several, const std::string& key,
                               const WorkerTurn& turn);

// The prompt alone; throws the same. Pictures take long.
Prompt make_request_prompt(const ChatModel& model, const ChatRequest& request, const WorkerTurn& turn);

}  // namespace smelt
