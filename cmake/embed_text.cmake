# Writes FILES, joined, as the text that FUNCTION returns into the C++ source OUT.
# usage: cmake -DOUT=x.cpp -DFUNCTION=name "-DFILES=a.md;b.md" -P embed_text.cmake
set(bytes "")
foreach(file ${FILES})
    file(READ ${file} hex HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," part "${hex}")
    string(APPEND bytes "${part}")
endforeach()
file(WRITE ${OUT} "// Made by cmake/embed_text.cmake.
#include \"lab/built_in_text.h\"

namespace smelt {

std::string_view ${FUNCTION}() {
    static const unsigned char bytes[] = {${bytes}};
    return {reinterpret_cast<const char*>(bytes), sizeof bytes};
}

}  // namespace smelt
")
