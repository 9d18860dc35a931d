// The files of the chat page and the dashboard, src/server/pages/web/, and the documentation, as they were
// when this was built.
#pragma once

#include <span>
#include <string_view>

namespace smelt {

struct WebFile {
    std::string_view name, text;
};

std::span<const WebFile> web_files();  // web_files.cpp is made by cmake/embed.cmake
// Compressed by gzip. doc_files.cpp is made by scripts/make_site.py; empty where there was no Python for it.
std::span<const WebFile> doc_files();

}  // namespace smelt
