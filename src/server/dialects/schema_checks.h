// What the checks of request bodies share: one wording for every refusal.
#pragma once

#include <algorithm>
#include <span>

#include "server/api_error.h"
#include "server/dialects/schema.h"

namespace smelt {

std::string found(const Json& v);  // for an error's text: the value, or what it is

[[noreturn]] void wrong_type(const std::string& param, std::string_view expected, const Json& v);
[[noreturn]] void wrong_value(const std::string& param, std::string_view expected, const Json& v);
[[noreturn]] void missing(const std::string& param);

void check_string(const std::string& param, const Json& v, size_t max_length);
void check_choice(const std::string& param, const Json& v, std::span<const std::string_view> choices);
void check_boolean(const std::string& param, const Json& v);
void check_object(const std::string& param, const Json& v);
void check_integer(const std::string& param, const Json& v, int64_t min, int64_t max);
void check_number(const std::string& param, const Json& v, double min, double max);

// Members of an object; null is the same as absent.
const Json* find_member(const Json& object, const char* name);
const Json& need_member(const std::string& param, const Json& object, const char* name);
const std::string& need_string(const std::string& param, const Json& object, const char* name);

// The members of an object that are fields; `prefix` comes before their names in errors.
void check_fields(const std::string& prefix, const Json& object, std::span<const Field> fields);
// The members that are no fields: those that look like a slip of one are refused, the others are returned.
std::vector<std::string> unknown_fields(const std::string& prefix, const Json& object,
                                        std::span<const Field> fields);
// The name among the fields that an unknown one is a slip of: other case or underscores, or one letter added,
// left out, other, or swapped with its neighbour. Empty: none.
std::string_view near_field(std::string_view name, std::span<const Field> fields);

}  // namespace smelt
