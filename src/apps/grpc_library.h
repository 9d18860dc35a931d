// Opens the gRPC library, which is built and installed apart from the command.
#pragma once

#include <memory>

#include "server/grpc/kserve_host.h"

namespace smelt {

// Throws Error: there is no such library, or it cannot listen.
std::unique_ptr<GrpcServer> start_grpc(KserveHost& host, const GrpcOptions& options);

}  // namespace smelt
