// Pictures in requests: what each dialect calls them, as the bytes of a file. Nothing is fetched.
#pragma once

#include "chat/conversation.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

// "data:image/png;base64,...". Throws RequestError naming the field.
ImagePart read_picture_url(const std::string& param, const Json& v);
// The base64 text alone.
ImagePart read_picture_base64(const std::string& param, const Json& v);
// Pictures are the user's to show.
void check_shows(const std::string& param, const Message& m);

}  // namespace smelt
