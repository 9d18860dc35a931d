// Data URLs and base64.
#include "server/dialects/pictures.h"

#include "base/base64.h"

namespace smelt {

namespace {

constexpr size_t max_encoded = size_t{1} << 28;

ImagePart decoded(const std::string& param, std::string_view text) {
    auto bytes = decode_base64(text);
    if (!bytes || bytes->empty()) {
        throw bad_request("invalid_value", param, "{}: expected a picture as base64, found other characters",
                          param);
    }
    return {std::make_shared<const std::string>(std::move(*bytes)), param};
}

}  // namespace

ImagePart read_picture_url(const std::string& param, const Json& v) {
    check_string(param, v, max_encoded);
    const std::string_view url = v.get_ref<const std::string&>();
    if (url.starts_with("http://") || url.starts_with("https://")) {
        constexpr size_t max_url = 8192;
        check_string(param, v, max_url);
        return {nullptr, param, std::string(url)};
    }
    if (!url.starts_with("data:")) {
        throw bad_request(
            "unsupported_content", param,
            "{}: expected a data: URL with base64, http or https; nothing is fetched from other places",
            param);
    }
    constexpr std::string_view mark = ";base64,";
    const size_t at = url.substr(0, 200).find(mark);
    if (at == std::string_view::npos)
        throw bad_request("invalid_value", param, "{}: expected data:image/...;base64,...", param);
    return decoded(param, url.substr(at + mark.size()));
}

ImagePart read_picture_base64(const std::string& param, const Json& v) {
    check_string(param, v, max_encoded);
    // Some clients send the whole URL.
    const std::string& text = v.get_ref<const std::string&>();
    return text.starts_with("data:") ? read_picture_url(param, v) : decoded(param, text);
}

void check_shows(const std::string& param, const Message& m) {
    if (m.role == Role::user) return;
    throw bad_request("unsupported_content", param, "{}: pictures are read in messages of the user alone",
                      param);
}

}  // namespace smelt
