// The list as room files reads it.
#include "model/architectures.h"

#include "files/families.h"

namespace smelt {

std::span<const Family* const> all_families() {
#define X(name) &families::name,
    static constexpr const Family* list[] = {FAMILIES(X)};
#undef X
    return list;
}

}  // namespace smelt
