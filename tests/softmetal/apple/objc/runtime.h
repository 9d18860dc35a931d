// The Objective-C runtime's types and functions that metal-cpp calls.
#pragma once

#include <stddef.h>

using BOOL = signed char;
using Class = struct objc_class*;
using SEL = struct objc_selector*;
using Method = struct objc_method*;
using Protocol = struct objc_protocol;
struct objc_object {
    Class isa;
};
using id = objc_object*;
using IMP = id (*)();

extern "C" {
SEL sel_registerName(const char* name);
Class objc_lookUpClass(const char* name);
Class objc_getClass(const char* name);
Protocol* objc_getProtocol(const char* name);
Class objc_allocateClassPair(Class superclass, const char* name, size_t extra);
void objc_registerClassPair(Class c);
Class object_getClass(id object);
const char* object_getClassName(id object);
BOOL class_addMethod(Class c, SEL name, IMP implementation, const char* types);
BOOL class_respondsToSelector(Class c, SEL name);
Method class_getInstanceMethod(Class c, SEL name);
void objc_msgSend();
void objc_msgSend_fpret();
void objc_msgSend_stret();
}
