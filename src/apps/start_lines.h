// What `serve` says at its start, for whoever looks at a log later: the machine, the device and why it was
// taken, each model with its sizes.
#pragma once

#include <string>

#include "chat/chat_model.h"

namespace smelt {

void log_machine();
// `asked`: the value of --device. Says of auto what it took, and of each device that is not here why.
void log_device(const std::string& asked, const Backend& taken);
void log_model(const std::string& name, const ChatModel& chat, int n_replicas);

}  // namespace smelt
