// What POST /generate and the WebSocket share.
#pragma once

#include "server/dialects/answer.h"

namespace smelt {

// Of a body that generate_schema accepted. Throws RequestError.
JobSpec make_question_job(ServerContext& server, const Json& body, const std::string& key,
                          const WorkerTurn& turn, std::vector<std::string> warnings);
// Its events are messages that carry the id. Starts with Answer::start().
std::shared_ptr<Answer> make_socket_answer(ServerContext& server, std::shared_ptr<Exchange> exchange,
                                           JobSpec job, std::string id);

}  // namespace smelt
