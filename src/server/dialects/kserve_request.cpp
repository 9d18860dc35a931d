// Parameters are one list of fields, wherever a client puts them: beside text_input, in `parameters`, in the
// text of sampling_parameters, or as tensors of their own.
#include "server/dialects/kserve_request.h"

#include "base/number.h"
#include "server/dialects/constraints.h"
#include "server/dialects/openai_request.h"
#include "server/dialects/sampling_fields.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

using enum FieldType;

constexpr int usual_max_tokens = 16;  // vLLM's, which Triton's users know
constexpr std::string_view text_input = "text_input", sampling_text = "sampling_parameters";

// vLLM's backend for Triton takes all of them in one text.
void check_sampling_text(const std::string& param, const Json& v) {
    check_string(param, v, size_t{1} << 20);
    try {
        if (parse_json(v.get_ref<const std::string&>(), param).is_object()) return;
    } catch (const Error& e) {
        throw bad_request("invalid_value", param, "{}: {}", param, e.what());
    }
    wrong_type(param, "a JSON object as text", v);
}
const CompoundType sampling_text_type = {
    .description = "JSON object as text", .check = check_sampling_text, .openapi = R"({"type": "string"})"};

std::vector<Field> make_parameter_fields() {
    std::vector<Field> fields = {
        {.name = "max_tokens",
         .type = integer,
         .doc = "Tokens of the answer at most; -1: until the context is full.",
         .min = -1,
         .max = std::numeric_limits<int32_t>::max(),
         .fallback = "16"},
        {.name = "stream",
         .type = boolean,
         .doc =
             "Several responses, each with a piece of the text. Default: true where there can be several."},
        {.name = "exclude_input_in_output",
         .type = boolean,
         .doc = "false: text_output begins with text_input.",
         .fallback = "true"},
        {.name = "apply_chat_template",
         .type = boolean,
         .doc = "text_input is a question, around which the model's template is put.",
         .fallback = "false"},
        {.name = "random_seed", .type = integer, .doc = "TensorRT-LLM's name of seed."},
        {.name = "stop_words", .type = FieldType::stop, .doc = "TensorRT-LLM's name of stop."},
        {.name = "bad_words", .type = unsupported, .doc = "logit_bias does it.", .choices = {"\"\""}},
        {.name = "sequence_id",
         .type = unsupported,
         .doc = "a text_input holds the whole conversation.",
         .choices = {"0", "\"\""}},
        {.name = "sequence_start", .type = unsupported, .doc = "as sequence_id.", .choices = {"false"}},
        {.name = "sequence_end", .type = unsupported, .doc = "as sequence_id.", .choices = {"false"}},
        {.name = sampling_text,
         .type = compound,
         .doc = "These parameters as a text of JSON, as vLLM's backend takes them.",
         .compound = &sampling_text_type}};
    constexpr std::string_view of_several[] = {"n", "best_of", "use_beam_search", "length_penalty"};
    for (Field f : openai_sampling_fields()) {
        if (std::ranges::find(of_several, f.name) != std::end(of_several)) {
            f = {.name = f.name,
                 .type = unsupported,
                 .doc = "a row has one answer.",
                 .choices = {"1", "1.0", "false"}};
        }
        fields.push_back(std::move(f));
    }
    for (const Field& f : constraint_fields()) fields.push_back(f);
    return fields;
}

const std::vector<Field>& parameter_fields() {
    static const std::vector<Field> fields = make_parameter_fields();
    return fields;
}

const Field* find_parameter(std::string_view name) {
    const auto it = std::ranges::find(parameter_fields(), name, &Field::name);
    return it == parameter_fields().end() ? nullptr : &*it;
}

void check_parameters(const std::string& param, const Json& v) {
    check_object(param, v);
    check_fields(param + ".", v, parameter_fields());
}
const CompoundType parameters_type = {
    .description = "object of these fields", .check = check_parameters, .openapi = R"({"type": "object"})"};

const CompoundType tensors_type = {
    .description = "array of {name, datatype, shape, data, parameters}",
    .openapi =
        R"({"type": "array", "items": {"type": "object", "required": ["name", "datatype", "shape"]}})"};
const CompoundType outputs_type = {
    .description = "array of {name, parameters: {binary_data}}",
    .openapi = R"({"type": "array", "items": {"type": "object", "required": ["name"]}})"};
const Field id_field = {
    .name = "id", .type = string, .doc = "Comes back with the answer.", .max_length = 512};

std::vector<Field> make_generate_fields() {
    std::vector<Field> fields = {
        {.name = text_input, .type = string, .doc = "The text that goes on.", .required = true},
        {.name = "parameters",
         .type = compound,
         .doc = "The other fields may be in here as well.",
         .compound = &parameters_type},
        id_field};
    fields.insert(fields.end(), parameter_fields().begin(), parameter_fields().end());
    return fields;
}

// Of a type that a tensor can have; objects come as text alone.
std::string_view datatype_of(const Field& f) {
    if (f.name == sampling_text) return "BYTES";
    switch (f.type) {
        case boolean:
            return "BOOL";
        case integer:
            return f.max > std::numeric_limits<int32_t>::max() ? "INT64" : "INT32";
        case number:
            return "FP32";
        case string:
        case FieldType::stop:
            return "BYTES";
        default:
            return "";
    }
}

// One value for all rows: rows of a request are computed with the same sampling.
Json parameter_of(const KserveTensor& t, const Field& field, size_t n_rows) {
    const size_t per_row =
        !t.shape.empty() && t.shape.size() > 1 && n_rows > 0 && static_cast<size_t>(t.shape[0]) == n_rows
            ? t.data.size() / n_rows
            : t.data.size();
    for (size_t i = per_row; i < t.data.size(); ++i) {
        if (t.data[i] == t.data[i - per_row]) continue;
        throw bad_request("not_supported", t.name, "{}: expected the same in every row, found {} and {}",
                          t.name, found(t.data[i - per_row]), found(t.data[i]));
    }
    if (field.type == FieldType::stop) {
        Json texts = Json::array();
        for (size_t i = 0; i < per_row; ++i) texts.push_back(t.data[i]);
        return texts;
    }
    if (per_row != 1) {
        throw bad_request("invalid_value", t.name, "{}: expected one element, found {}", t.name, per_row);
    }
    return t.data[0];
}

// [rows], or [rows, 1].
void check_text_shape(const KserveTensor& t) {
    const bool is_list = t.shape.size() == 1 || (t.shape.size() == 2 && t.shape[1] == 1);
    if (t.datatype != "BYTES" || !is_list) {
        throw bad_request("invalid_value", t.name,
                          "{}: expected BYTES of shape [rows] or [rows, 1], found {} [{}]", t.name,
                          t.datatype, fmt::join(t.shape, ", "));
    }
    if (t.data.empty() || t.data.size() > max_prompts)
        throw bad_request("invalid_value", t.name, "{}: expected 1 to {} texts, found {}", t.name,
                          max_prompts, t.data.size());
}

void add_parameters(const Json& from, Json& to) {
    for (const auto& [name, value] : from.items()) {
        if (!value.is_null()) to[name] = value;
    }
}

// vLLM's clients write numbers in that text as strings.
void read_quoted_numbers(Json& parameters) {
    for (auto& [name, value] : parameters.items()) {
        const Field* f = find_parameter(name);
        if (f == nullptr || !value.is_string()) continue;
        const auto& text = value.get_ref<const std::string&>();
        if (f->type == integer) {
            if (const auto n = parse_integer<int64_t>(text)) value = *n;
        } else if (f->type == number) {
            if (const auto x = parse_real(text)) value = *x;
        } else if (f->type == boolean && (text == "true" || text == "false")) {
            value = text == "true";
        }
    }
}

// Unknown ones are warned of, or refused; those of the text come before the same one said otherwise.
Json checked_parameters(Json parameters, KserveStrictness s) {
    constexpr size_t max_warnings = 32;
    check_fields("", parameters, parameter_fields());
    if (const Json* text = find_member(parameters, sampling_text.data())) {
        Json all = parse_json(text->get_ref<const std::string&>(), sampling_text);
        read_quoted_numbers(all);
        check_fields(fmt::format("{}.", sampling_text), all, parameter_fields());
        if (all.contains(std::string(sampling_text)))
            throw bad_request("invalid_value", std::string(sampling_text), "{0}: not in {0}", sampling_text);
        parameters.erase(std::string(sampling_text));
        add_parameters(parameters, all);
        parameters = std::move(all);
    }
    for (const std::string& name : unknown_fields("parameters.", parameters, parameter_fields())) {
        if (s.strict) throw bad_request("unknown_parameter", name, "{}: no such parameter", name);
        if (s.warnings.size() < max_warnings) s.warnings.push_back(name + ": no such parameter, ignored");
    }
    for (const auto& [other, name] : {std::pair("random_seed", "seed"), std::pair("stop_words", "stop")}) {
        const auto it = parameters.find(other);
        if (it == parameters.end()) continue;
        if (!parameters.contains(name) && *it != "") parameters[name] = *it;
        parameters.erase(other);
    }
    return parameters;
}

KserveQuestion question_of(const Json& p) {
    KserveQuestion q;
    ChatRequest& r = q.request;
    r.param = text_input;
    read_sampling(p, r);
    r.options.max_tokens = get<int>(p, "max_tokens").value_or(usual_max_tokens);
    r.options.min_tokens = get<int>(p, "min_tokens").value_or(0);
    if (r.options.max_tokens >= 0 && r.options.min_tokens > r.options.max_tokens) {
        throw bad_request("invalid_value", "min_tokens",
                          "min_tokens: expected at most max_tokens, {}, found {}", r.options.max_tokens,
                          r.options.min_tokens);
    }
    r.bound = read_bound(p);
    q.uses_template = get<bool>(p, "apply_chat_template").value_or(false);
    q.repeats_input = !get<bool>(p, "exclude_input_in_output").value_or(true);
    q.streams = get<bool>(p, "stream");
    return q;
}

std::vector<KserveTensorInfo> make_inputs() {
    std::vector<KserveTensorInfo> inputs = {{text_input, "BYTES", "The text that goes on."}};
    for (const Field& f : parameter_fields()) {
        const std::string_view type = datatype_of(f);
        if (!type.empty()) inputs.push_back({f.name, type, f.doc, true, f.type == FieldType::stop});
    }
    return inputs;
}

constexpr KserveTensorInfo output_table[] = {
    {"text_output", "BYTES", "The text that goes on from it; of a stream, a piece of it."},
    {"finish_reason", "BYTES", "stop or length; of a stream empty until its last response."},
    {"num_input_tokens", "UINT32", "Tokens of the prompt."},
    {"num_output_tokens", "UINT32", "Tokens of the answer so far."}};

bool wants_binary(const std::string& param, const Json& object, const char* name, bool fallback) {
    const Json* parameters = find_member(object, "parameters");
    if (parameters == nullptr) return fallback;
    check_object(param, *parameters);
    const Json* v = find_member(*parameters, name);
    if (v == nullptr) return fallback;
    check_boolean(fmt::format("{}.{}", param, name), *v);
    return v->get<bool>();
}

std::vector<KserveQuestion::Output> read_outputs(const Json& body) {
    std::vector<KserveQuestion::Output> outputs;
    const bool binary = wants_binary("parameters", body, "binary_data_output", false);
    const Json* list = find_member(body, "outputs");
    if (list == nullptr || (list->is_array() && list->empty())) {
        for (const KserveTensorInfo& o : output_table) outputs.push_back({std::string(o.name), binary});
        return outputs;
    }
    if (!list->is_array()) wrong_type("outputs", "an array of outputs", *list);
    if (list->size() > std::size(output_table)) wrong_value("outputs", "each output once", *list);
    for (size_t i = 0; i < list->size(); ++i) {
        const Json& output = (*list)[i];
        const std::string at = fmt::format("outputs[{}]", i), parameters = at + ".parameters";
        check_object(at, output);
        const bool of_output = wants_binary(parameters, output, "binary_data", binary);
        if (const Json* p = find_member(output, "parameters")) {
            for (const auto& [name, value] : p->items()) {
                if (name == "binary_data" || value.is_null() || (name == "classification" && value == 0))
                    continue;
                throw bad_request("not_supported", parameters, "{}.{} is not supported here", parameters,
                                  name.substr(0, 60));
            }
        }
        outputs.push_back({need_string(at, output, "name"), of_output});
    }
    return outputs;
}

}  // namespace

const RequestSchema kserve_generate_schema = {
    .name = "KserveGenerateRequest",
    .fields = make_generate_fields(),
    .example = R"({"text_input": "The capital of France is", "max_tokens": 8, "temperature": 0})"};

const RequestSchema kserve_infer_schema = {
    .name = "KserveInferRequest",
    .fields = {id_field,
               {.name = "inputs",
                .type = compound,
                .doc = "Tensors: text_input with a text for each row, and parameters such as max_tokens.",
                .required = true,
                .compound = &tensors_type},
               {.name = "outputs",
                .type = compound,
                .doc = "Which tensors come back. Default: all.",
                .compound = &outputs_type},
               {.name = "parameters",
                .type = compound,
                .doc = "binary_data_output, and the fields of KserveGenerateRequest.",
                .compound = &any_object}},
    .example =
        R"({"inputs": [{"name": "text_input", "datatype": "BYTES", "shape": [1], "data": ["The capital of France is"]}], "parameters": {"max_tokens": 8, "temperature": 0}})"};

std::span<const KserveTensorInfo> kserve_inputs() {
    static const std::vector<KserveTensorInfo> inputs = make_inputs();
    return inputs;
}

std::span<const KserveTensorInfo> kserve_outputs() {
    return output_table;
}

std::string triton_type(std::string_view datatype) {
    return fmt::format("TYPE_{}", datatype == "BYTES" ? "STRING" : datatype);
}

Json triton_tensors(std::span<const KserveTensorInfo> tensors) {
    Json list = Json::array();
    for (const KserveTensorInfo& t : tensors) {
        Json tensor = {
            {"name", t.name}, {"data_type", triton_type(t.datatype)}, {"dims", {t.several ? -1 : 1}}};
        if (t.optional) tensor["optional"] = true;
        list.push_back(std::move(tensor));
    }
    return list;
}

KserveQuestion make_kserve_question(const std::vector<KserveTensor>& inputs, Json parameters,
                                    std::vector<KserveQuestion::Output> outputs,
                                    KserveStrictness strictness) {
    const KserveTensor* text = nullptr;
    for (const KserveTensor& t : inputs) {
        if (t.name == text_input) text = &t;
    }
    if (text == nullptr) throw bad_request("missing_required_parameter", "inputs", "inputs: no text_input");
    check_text_shape(*text);
    for (const KserveTensor& t : inputs) {
        if (&t == text) continue;
        const Field* field = find_parameter(t.name);
        if (field == nullptr || datatype_of(*field).empty()) {
            throw bad_request("invalid_value", "inputs", "inputs: the models here have no input {}",
                              t.name.substr(0, 100));
        }
        if (parameters.contains(t.name) || t.data.empty()) continue;
        parameters[t.name] = parameter_of(t, *field, text->data.size());
    }
    KserveQuestion q = question_of(checked_parameters(std::move(parameters), strictness));
    q.shape = text->shape;
    for (const Json& v : text->data) q.texts.push_back(v.get<std::string>());
    for (const KserveQuestion::Output& o : outputs) {
        if (std::ranges::find(output_table, o.name, &KserveTensorInfo::name) != std::end(output_table))
            continue;
        throw bad_request("invalid_value", "outputs", "outputs: the models here have no output {}",
                          o.name.substr(0, 100));
    }
    q.outputs = std::move(outputs);
    return q;
}

KserveQuestion read_kserve_infer(const Json& body, std::string_view binary, KserveStrictness strictness) {
    constexpr size_t max_inputs = 256;
    const Json& list = body.at("inputs");
    if (!list.is_array() || list.empty() || list.size() > max_inputs)
        wrong_type("inputs", fmt::format("an array of 1 to {} tensors", max_inputs), list);
    std::vector<KserveTensor> inputs;
    for (size_t i = 0; i < list.size(); ++i) {
        inputs.push_back(read_kserve_tensor(fmt::format("inputs[{}]", i), list[i], binary));
        if (std::ranges::count(inputs, inputs.back().name, &KserveTensor::name) > 1)
            throw bad_request("invalid_value", "inputs", "inputs: {} is there twice", inputs.back().name);
    }
    if (!binary.empty()) {
        throw bad_request("invalid_value", "inputs", "inputs: {} bytes of binary data belong to none of them",
                          binary.size());
    }
    std::vector<KserveQuestion::Output> outputs = read_outputs(body);
    Json parameters = get<Json>(body, "parameters").value_or(Json::object());
    parameters.erase("binary_data_output");
    KserveQuestion q = make_kserve_question(inputs, std::move(parameters), std::move(outputs), strictness);
    q.id = get<std::string>(body, "id").value_or("");
    return q;
}

KserveQuestion read_kserve_generate(const Json& body, KserveStrictness strictness) {
    Json parameters = get<Json>(body, "parameters").value_or(Json::object());
    for (const auto& [name, value] : body.items()) {
        if (find_parameter(name) != nullptr && !value.is_null()) parameters[name] = value;
    }
    KserveQuestion q = question_of(checked_parameters(std::move(parameters), strictness));
    q.id = get<std::string>(body, "id").value_or("");
    q.texts = {body.at(std::string(text_input)).get<std::string>()};
    return q;
}

ChatRequest kserve_chat_request(const KserveQuestion& question, size_t row) {
    ChatRequest r = question.request;
    if (question.uses_template) {
        r.messages.push_back({.role = Role::user, .parts = {TextPart{question.texts[row]}}});
    } else {
        r.plain = question.texts[row];
    }
    return r;
}

std::string kserve_text(const KserveQuestion& question, const std::string& thinking,
                        const std::string& answer) {
    return question.uses_template ? answer : thinking + answer;
}

KserveTensor kserve_output(std::string_view name, std::vector<int64_t> shape,
                           std::span<const KserveRow> rows) {
    const auto* info = std::ranges::find(output_table, name, &KserveTensorInfo::name);
    KserveTensor t{
        .name = std::string(name), .datatype = std::string(info->datatype), .shape = std::move(shape)};
    for (const KserveRow& row : rows) {
        t.data.push_back(name == "text_output"        ? Json(row.text)
                         : name == "finish_reason"    ? Json(row.finish_reason)
                         : name == "num_input_tokens" ? Json(row.n_input)
                                                      : Json(row.n_output));
    }
    return t;
}

}  // namespace smelt
