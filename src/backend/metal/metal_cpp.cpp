// The definitions behind metal-cpp's headers, which one file of a program has to ask for.
#define NS_PRIVATE_IMPLEMENTATION
#define MTL_PRIVATE_IMPLEMENTATION
#include <Metal/Metal.hpp>
