// Runs the smelt binary as a user would and keeps what it said.
#pragma once

#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

namespace smelt {

struct CommandResult {
    int status = -1;  // exit code; 128 + signal
    std::string out, err;
};

// `line` is what a shell would get behind "smelt ".
inline CommandResult smelt_command(const std::string& line, const std::string& stdin_text = "") {
    const std::filesystem::path folder = std::filesystem::temp_directory_path();
    const std::string base = (folder / ("smelt_cli_" + std::to_string(::getpid()))).string();
    std::ofstream(base + ".in") << stdin_text;
    const std::string command =
        std::string(SMELT_BINARY) + " " + line + " <" + base + ".in >" + base + ".out 2>" + base + ".err";
    const int status = std::system(command.c_str());
    const auto text = [](const std::string& path) {
        std::ifstream in(path);
        return std::string(std::istreambuf_iterator<char>(in), {});
    };
    CommandResult result{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
                         text(base + ".out"), text(base + ".err")};
    for (const char* suffix : {".in", ".out", ".err"}) std::filesystem::remove(base + suffix);
    return result;
}

}  // namespace smelt
