// NVRTC: one program a unit, all headers from memory.
#include "backend/cuda/nvrtc.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <memory>

#include "backend/cuda/driver.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"

namespace smelt::cuda {

namespace {

using NvrtcProgram = struct NvrtcProgramTag*;

#define SMELT_NVRTC_FUNCTIONS(X)                                                                       \
    X(version, nvrtcVersion, (int* major, int* minor))                                                 \
    X(create, nvrtcCreateProgram,                                                                      \
      (NvrtcProgram * program, const char* source, const char* name, int n_headers,                    \
       const char* const* headers, const char* const* names))                                          \
    X(compile, nvrtcCompileProgram, (NvrtcProgram program, int n_options, const char* const* options)) \
    X(log_size, nvrtcGetProgramLogSize, (NvrtcProgram program, size_t * bytes))                        \
    X(log, nvrtcGetProgramLog, (NvrtcProgram program, char* log))                                      \
    X(cubin_size, nvrtcGetCUBINSize, (NvrtcProgram program, size_t * bytes))                           \
    X(cubin, nvrtcGetCUBIN, (NvrtcProgram program, char* cubin))                                       \
    X(destroy, nvrtcDestroyProgram, (NvrtcProgram * program))

struct Nvrtc {
#define X(member, symbol, parameters) int(*member) parameters = nullptr;
    SMELT_NVRTC_FUNCTIONS(X)
#undef X
};

std::unique_ptr<const Nvrtc> open_nvrtc(std::string& missing) {
    const SharedLibrary library{"libnvrtc.so.13",
                                "libnvrtc.so.12",
                                "libnvrtc.so",
                                "/usr/local/cuda/lib64/libnvrtc.so.13",
                                "/usr/local/cuda/lib64/libnvrtc.so.12",
                                "/usr/local/cuda/lib64/libnvrtc.so"};
    if (!library) {
        missing = fmt::format("no NVRTC, which comes with CUDA's toolkit: {}", library.reason());
        return nullptr;
    }
    auto nvrtc = std::make_unique<Nvrtc>();
    std::string symbol;
#define X(member, name, parameters) library.find(nvrtc->member, #name, symbol);
    SMELT_NVRTC_FUNCTIONS(X)
#undef X
    if (symbol.empty()) return nvrtc;
    missing = fmt::format("NVRTC is too old: it has no {}", symbol);
    return nullptr;
}

// The standard library's header, which NVRTC does not have.
constexpr const char* cstdint_text =
    "#pragma once\n"
    "typedef signed char int8_t;\ntypedef unsigned char uint8_t;\n"
    "typedef short int16_t;\ntypedef unsigned short uint16_t;\n"
    "typedef int int32_t;\ntypedef unsigned int uint32_t;\n"
    "typedef long int64_t;\ntypedef unsigned long uint64_t;\ntypedef unsigned long uintptr_t;\n";

// FNV-1a.
uint64_t hash_of(std::string_view text, uint64_t hash = 14695981039346656037u) {
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211u;
    return hash;
}

std::filesystem::path cached_file(const KernelUnit& unit, const CompileTarget& target,
                                  const std::string& compiler) {
    uint64_t hash = hash_of(compiler);
    for (const KernelFile& f : kernel_files()) hash = hash_of(f.text, hash_of(f.name, hash));
    for (const std::string& part : {target.architecture, target.card, std::to_string(target.driver_version)})
        hash = hash_of(part, hash_of("\n", hash));
    return target.cache / fmt::format("{}-{}-{:016x}.cubin", unit.name, target.architecture, hash);
}

std::vector<char> compile(const Nvrtc& nvrtc, const KernelUnit& unit, const std::string& architecture) {
    std::string source;
    if (!unit.format.empty()) source = fmt::format("#define SMELT_FORMAT {}\n", unit.format);
    source += fmt::format("#include \"{}\"\n", unit.file);
    std::vector<const char*> names{"cstdint"}, texts{cstdint_text};
    for (const KernelFile& f : kernel_files()) {
        names.push_back(f.name);
        texts.push_back(f.text);
    }
    NvrtcProgram program = nullptr;
    if (nvrtc.create(&program, source.c_str(), std::string(unit.name).c_str(), static_cast<int>(names.size()),
                     texts.data(), names.data()) != 0) {
        throw Error("device cuda: NVRTC makes no program of {}", unit.name);
    }
    const auto destroy = [&](NvrtcProgram*) { nvrtc.destroy(&program); };
    const std::unique_ptr<NvrtcProgram, decltype(destroy)> owner(&program, destroy);
    const std::string architecture_option = "--gpu-architecture=" + architecture;
    const char* const options[] = {architecture_option.c_str(), "--std=c++20", "--fmad=false",
                                   "--device-as-default-execution-space"};
    if (nvrtc.compile(program, static_cast<int>(std::size(options)), options) != 0) {
        size_t size = 0;
        std::string log;
        if (nvrtc.log_size(program, &size) == 0 && size > 1) {
            log.resize(size);
            if (nvrtc.log(program, log.data()) != 0) log.clear();
        }
        throw Error("device cuda: NVRTC does not compile {} for {}: {}", unit.name, architecture,
                    log.empty() ? "no reason given" : log.c_str());
    }
    size_t size = 0;
    std::vector<char> image;
    if (nvrtc.cubin_size(program, &size) == 0 && size > 0) {
        image.resize(size);
        if (nvrtc.cubin(program, image.data()) == 0) return image;
    }
    throw Error("device cuda: NVRTC has no machine code of {} for {}", unit.name, architecture);
}

}  // namespace

std::string describe_nvrtc(std::string& missing) {
    const auto nvrtc = open_nvrtc(missing);
    if (nvrtc == nullptr) return "";
    int major = 0, minor = 0;
    nvrtc->version(&major, &minor);
    return fmt::format("NVRTC {}.{}", major, minor);
}

std::vector<char> compile_unit(const KernelUnit& unit, const CompileTarget& target) {
    std::string missing;
    const auto nvrtc = open_nvrtc(missing);
    if (nvrtc == nullptr)
        throw Error("device cuda: kernels of {} cannot be compiled: {}", unit.name, missing);
    if (target.cache.empty()) return compile(*nvrtc, unit, target.architecture);
    const std::filesystem::path path = cached_file(unit, target, describe_nvrtc(missing));
    if (std::ifstream file(path, std::ios::binary); file) {
        std::vector<char> image((std::istreambuf_iterator<char>(file)), {});
        if (!image.empty()) return image;
    }
    std::vector<char> image = compile(*nvrtc, unit, target.architecture);
    // Without the cache the next start takes longer, that is all.
    try {
        std::filesystem::create_directories(target.cache);
        AtomicFile file(path);
        file.write(std::as_bytes(std::span(image)));
        file.commit();
    } catch (const std::exception& e) {
        spdlog::warn("device cuda: compiled kernels are not kept: {}", e.what());
    }
    return image;
}

}  // namespace smelt::cuda
