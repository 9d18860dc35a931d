// That there are residency sets shows in this header, with Apple's metal-cpp too.
#pragma once

#include <Metal/Metal.hpp>
