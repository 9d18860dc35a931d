#!/bin/sh
# Compares every #include "room/..." under src/ with the rooms that src/CMakeLists.txt lets that room link, directly or
# through another. Prints the includes that break the table; exit 1 if there are any.
set -eu
cd "$(dirname "$0")/.."

# "room: rooms it may include", from the room() calls; the command may include all.
allowed=$(awk '
    /^room\(/ { room = substr($1, 6); allowed[room] = room; order[++n] = room; listing = 0 }
    room != "" && /ROOMS/ { listing = 1; sub(/.*ROOMS/, "") }
    listing {
        rest = $0; gsub(/[()]/, " ", rest); count = split(rest, word, " ")
        for (i = 1; i <= count; i++) { if (word[i] == "LIBS") { listing = 0; break } allowed[room] = allowed[room] " " allowed[word[i]] }
    }
    /\)/ { listing = 0; if (room != "" && /\)[ ]*$/) room = "" }
    END { for (i = 1; i <= n; i++) print order[i] ":" allowed[order[i]] " " }
' src/CMakeLists.txt)

status=0
for file in $(find src -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.metal' | sort); do
    room=${file#src/}; room=${room%%/*}
    [ "$room" = apps ] && continue
    line=$(printf '%s\n' "$allowed" | grep "^$room:") || { echo "$file: room $room is not in src/CMakeLists.txt"; status=1; continue; }
    for target in $(sed -n 's|^#include "\([a-z_]*\)/.*|\1|p' "$file" | sort -u); do
        case "$line" in
        "$room:$target "* | *" $target "*) ;;
        *) echo "$file: includes $target/, which src/CMakeLists.txt does not let $room link"; status=1 ;;
        esac
    done
    # Models see the seam alone.
    case "$room" in
    model | engine)
        bad=$(grep -n '#include "backend/' "$file" | grep -v 'backend/\(backend\|fusion\|kv_storage\|op\|record\|step_input\|tensor\)\.h' || true)
        [ -z "$bad" ] || { echo "$file: $bad: only the headers of the seam are for $room"; status=1; } ;;
    esac
done
# fmt 12 has format() in <fmt/format.h> alone, which <fmt/core.h> included before.
if grep -rn --include='*.cpp' --include='*.h' '<fmt/core.h>' src tests fuzz bench examples; then echo "include <fmt/format.h> instead"; status=1; fi
exit $status
