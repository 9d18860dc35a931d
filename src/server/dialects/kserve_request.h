// Requests of KServe v2 and of Triton's generate extension, read into what all dialects have. HTTP, gRPC and
// the Triton backend share it.
#pragma once

#include "chat/chat_request.h"
#include "server/dialects/kserve_tensors.h"
#include "server/dialects/schema.h"

namespace smelt {

// A tensor that every model here has. Its rows are prompts: shape [rows] or [rows, n].
struct KserveTensorInfo {
    std::string_view name, datatype, doc;
    bool optional = false;
    bool several = false;  // more than one element a row
};
std::span<const KserveTensorInfo> kserve_inputs();
std::span<const KserveTensorInfo> kserve_outputs();
// The same as a model's configuration in Triton has them: TYPE_STRING where the protocol says BYTES.
std::string triton_type(std::string_view datatype);
Json triton_tensors(std::span<const KserveTensorInfo> tensors);

struct KserveQuestion {
    std::string id = {};
    ChatRequest request = {};  // without prompts
    std::vector<std::string> texts = {};
    std::vector<int64_t> shape = {};  // of the tensor that they came in; empty: it was none
    bool uses_template = false;       // texts are questions
    bool repeats_input = false;       // text_output begins with text_input
    std::optional<bool> streams = {};
    struct Output {
        std::string name;
        bool binary = false;
    };
    std::vector<Output> outputs = {};
};

struct KserveStrictness {
    bool strict = false;                 // unknown parameters are refused
    std::vector<std::string>& warnings;  // else they are named here
};

// Throw RequestError.
KserveQuestion read_kserve_infer(const Json& body, std::string_view binary, KserveStrictness strictness);
KserveQuestion read_kserve_generate(const Json& body, KserveStrictness strictness);
// What both are made of: `parameters` is an object. No names of outputs: all.
KserveQuestion make_kserve_question(const std::vector<KserveTensor>& inputs, Json parameters,
                                    std::vector<KserveQuestion::Output> outputs, KserveStrictness strictness);

// The request for one of the texts.
ChatRequest kserve_chat_request(const KserveQuestion& question, size_t row);

// Without a template what looks like thinking is a part of the text; with one it is left out.
std::string kserve_text(const KserveQuestion& question, const std::string& thinking,
                        const std::string& answer);

// What came of a row.
struct KserveRow {
    std::string text = {}, finish_reason = {};
    int n_input = 0, n_output = 0;  // tokens
};
// A tensor of the outputs with these rows.
KserveTensor kserve_output(std::string_view name, std::vector<int64_t> shape,
                           std::span<const KserveRow> rows);

}  // namespace smelt
