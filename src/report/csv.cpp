// Quotes around what has commas, quotes or line ends, quotes doubled.
#include "report/csv.h"

namespace smelt {

std::string csv_text(const CsvTable& table) {
    std::string out;
    for (const CsvRow& row : table) {
        for (size_t i = 0; i < row.size(); ++i) {
            if (i > 0) out += ',';
            if (row[i].find_first_of(",\"\r\n") == std::string::npos) {
                out += row[i];
                continue;
            }
            out += '"';
            for (const char c : row[i]) out += c == '"' ? std::string("\"\"") : std::string(1, c);
            out += '"';
        }
        out += '\n';
    }
    return out;
}

CsvTable parse_csv(std::string_view text) {
    CsvTable table;
    CsvRow row(1);
    bool quoted = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (quoted) {
            if (c != '"') {
                row.back() += c;
            } else if (i + 1 < text.size() && text[i + 1] == '"') {
                row.back() += text[++i];
            } else {
                quoted = false;
            }
        } else if (c == '"') {
            quoted = true;
        } else if (c == ',') {
            row.emplace_back();
        } else if (c == '\n') {
            table.push_back(std::move(row));
            row = CsvRow(1);
        } else if (c != '\r') {
            row.back() += c;
        }
    }
    // The last line may have no end.
    if (row.size() > 1 || !row[0].empty()) table.push_back(std::move(row));
    return table;
}

}  // namespace smelt
