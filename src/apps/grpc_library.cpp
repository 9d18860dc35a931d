// Finds libsmelt_grpc.so: beside the command after a build, in ../lib/smelt after an installation, and
// nowhere else.
#include "apps/grpc_library.h"

#include <dlfcn.h>

#include <filesystem>

#include "base/error.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

constexpr const char* library = "libsmelt_grpc.so";

void* open_library() {
    const fs::path folder = fs::read_symlink("/proc/self/exe").parent_path();
    for (const fs::path& path : {folder / library, folder.parent_path() / "lib" / "smelt" / library}) {
        if (!fs::exists(path)) continue;
        void* opened = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (opened == nullptr) throw Error("--grpc-port: {}", dlerror());
        return opened;
    }
    throw Error(
        "--grpc-port: expected {} beside smelt or in ../lib/smelt, found none; cmake --build build --target "
        "smelt_grpc makes it, with libgrpc++-dev and protobuf-compiler-grpc installed",
        library);
}

}  // namespace

std::unique_ptr<GrpcServer> start_grpc(KserveHost& host, const GrpcOptions& options) {
    // Never closed: what it made may outlive its server.
    auto* start = reinterpret_cast<StartGrpc*>(dlsym(open_library(), start_grpc_symbol));
    if (start == nullptr) throw Error("--grpc-port: {} is of another version", library);
    std::string error;
    std::unique_ptr<GrpcServer> server(start(host, options, error));
    if (server == nullptr) throw Error("--grpc-port: {}", error);
    return server;
}

}  // namespace smelt
