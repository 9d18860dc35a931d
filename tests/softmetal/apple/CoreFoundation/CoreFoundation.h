#pragma once
using CFTimeInterval = double;
using CFStringRef = const struct __CFString*;
