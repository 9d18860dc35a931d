// Pictures in requests: what each dialect calls them, as the bytes of a file. Of addresses the
// rest is done where it may take long (chat/chat_request.cpp).
#pragma once

#include "chat/conversation.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

// "data:image/png;base64,...", or an address of http or https. Throws RequestError naming the field.
ImagePart read_picture_url(const std::string& param, const Json& v);
// The base64 text alone.
ImagePart read_picture_base64(const std::string& param, const Json& v);
// Pictures are the user's to show.
void check_shows(const std::string& param, const Message& m);

}  // namespace smelt
