// What Apple's system headers bring along and metal-cpp takes for granted. The headers beside this one stand
// in for Apple's, so that host code can be checked against metal-cpp where there is no macOS; nothing here is
// ever linked.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

using dispatch_queue_t = struct dispatch_queue_s*;
using dispatch_data_t = struct dispatch_data_s*;
struct task_id_token_s;
using kern_return_t = int;
using task_id_token_t = unsigned;
using mach_port_t = unsigned;
