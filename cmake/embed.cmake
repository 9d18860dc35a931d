# Writes FILES, whose names end in those of web_files(), as byte arrays into the C++ source OUT.
# usage: cmake -DOUT=web_files.cpp "-DFILES=a.html;b.js" -P embed.cmake
set(arrays "")
set(table "")
foreach(file ${FILES})
    get_filename_component(name ${file} NAME)
    string(MAKE_C_IDENTIFIER ${name} symbol)
    file(READ ${file} hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
    string(APPEND arrays "const unsigned char ${symbol}[] = {${bytes}};\n")
    string(APPEND table "    {\"${name}\", {reinterpret_cast<const char*>(${symbol}), sizeof ${symbol}}},\n")
endforeach()
file(WRITE ${OUT} "// Made by cmake/embed.cmake.
#include \"server/pages/web_files.h\"

namespace smelt {

namespace {

${arrays}
const WebFile files[] = {
${table}};

}  // namespace

std::span<const WebFile> web_files() {
    return files;
}

}  // namespace smelt
")
