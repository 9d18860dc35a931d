// What smelt.h's classes are made of, and how failures of the rooms below become its errors. Not installed.
#pragma once

#define SMELT_INSIDE
#include "api/smelt.h"
#include "base/memory_error.h"
#include "chat/chat_model.h"

namespace smelt::v1 {

struct Pictures {
    std::vector<std::shared_ptr<const Patches>> all;
};

struct Model::Impl {
    std::unique_ptr<ChatModel> chat;
};

struct Generation::Impl {
    std::shared_ptr<Model::Impl> model;  // outlives the generation
    std::unique_ptr<smelt::Generation> generation;
    Answer answer = {};
    bool complete = false;

    // The piece, also added to the answer.
    std::optional<Piece> next();
    void take_finish();
    static std::unique_ptr<Impl> start_embedding(const std::shared_ptr<Model::Impl>& model,
                                                 std::string_view text, const EmbedOptions& options);
};

template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
    throw Error(ErrorCode::invalid_argument, fmt::format(format, std::forward<Args>(args)...));
}

void check_range(const char* name, int64_t value, int64_t min, int64_t max);
void check_utf8(const char* name, std::string_view text);

inline ErrorCode code_of(Refusal::Kind kind) {
    return kind == Refusal::Kind::bad_request  ? ErrorCode::invalid_argument
           : kind == Refusal::Kind::queue_full ? ErrorCode::busy
                                               : ErrorCode::failed;
}

// Starts a request; when the queue is full it waits for the oldest of those that the caller has started.
template <class Start, class ReadFirst, class UnderWay>
auto start_when_free(const UnderWay& under_way, ReadFirst read_first, Start start) -> decltype(start()) {
    while (true) {
        try {
            return start();
        } catch (const Error& e) {
            if (e.code() != ErrorCode::busy || under_way.empty()) throw;
        }
        read_first();
    }
}

// Calls f; what it throws becomes an Error, with `code` where nothing better is known.
template <class F>
auto translated(ErrorCode code, F f) -> decltype(f()) {
    try {
        return f();
    } catch (const Error&) {
        throw;
    } catch (const MemoryError& e) {
        throw Error(ErrorCode::out_of_memory, e.what());
    } catch (const RefusedRequest& e) {
        throw Error(code_of(e.kind), e.what());
    } catch (const smelt::Error& e) {
        throw Error(code, e.what());
    } catch (const std::filesystem::filesystem_error& e) {
        throw Error(code, e.what());
    } catch (const std::bad_alloc&) {
        throw Error(ErrorCode::out_of_memory, "too little memory");
    } catch (const std::exception& e) {
        throw Error(ErrorCode::internal, e.what());
    }
}

}  // namespace smelt::v1
