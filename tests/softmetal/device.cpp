// The software Metal device: buffers, libraries and pipelines.
#include <unistd.h>

#include <atomic>
#include <cstring>

#include "softmetal/execute.h"
#include "softmetal/softmetal.h"

namespace softmetal {

Settings& settings() {
    static Settings s;
    return s;
}

namespace {
std::atomic<uint64_t> allocated = 0;

NS::String* string_of(const std::string& text) {
    return NS::String::string(text.c_str(), NS::UTF8StringEncoding);
}
size_t page_bytes() {
    return static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}
}  // namespace

}  // namespace softmetal

namespace MTL {

using softmetal::reject;
using softmetal::string_of;

Device* CreateSystemDefaultDevice() {
    return softmetal::settings().present ? new Device() : nullptr;
}

NS::Array* CopyAllDevices() {
    std::vector<NS::Object*> all;
    if (Device* device = CreateSystemDefaultDevice()) all.push_back(device);
    return NS::Array::make(all);
}

NS::String* Device::name() const {
    return string_of("software Metal device");
}
uint64_t Device::recommendedMaxWorkingSetSize() const {
    return softmetal::settings().working_set;
}
NS::UInteger Device::maxBufferLength() const {
    return softmetal::settings().max_buffer_length;
}
NS::UInteger Device::currentAllocatedSize() const {
    return softmetal::allocated;
}
bool Device::supportsFamily(GPUFamily family) {
    return family <= GPUFamilyApple8 || family == GPUFamilyMac2 || family == GPUFamilyCommon3 ||
           family == GPUFamilyMetal3;
}
CommandQueue* Device::newCommandQueue() {
    alive("Device::newCommandQueue");
    return new CommandQueue();
}
CommandQueue* Device::newCommandQueue(NS::UInteger) {
    return newCommandQueue();
}

Buffer* Device::newBuffer(NS::UInteger length, ResourceOptions options) {
    alive("Device::newBuffer");
    if (length == 0) reject("newBuffer: length 0");
    if (length > maxBufferLength())
        reject("newBuffer: " + std::to_string(length) + " bytes are more than maxBufferLength, " +
               std::to_string(maxBufferLength()));
    if (softmetal::allocated + length > softmetal::settings().memory) return nullptr;
    char* memory = softmetal::allocate(length);
    if (memory == nullptr) return nullptr;
    Buffer* b = new Buffer();
    b->memory_ = memory;
    b->length_ = length;
    b->owned_ = true;
    b->mode_ = static_cast<StorageMode>(options >> 4 & 15);
    softmetal::allocated += length;
    return b;
}

Buffer* Device::newBuffer(const void* pointer, NS::UInteger length, ResourceOptions options) {
    Buffer* b = newBuffer(length, options);
    if (b) std::memcpy(b->memory_, pointer, length);
    return b;
}

Buffer* Device::newBuffer(const void* pointer, NS::UInteger length, ResourceOptions options,
                          const std::function<void(void*, NS::UInteger)>& deallocator) {
    alive("Device::newBuffer");
    const size_t page = softmetal::page_bytes();
    if (reinterpret_cast<uintptr_t>(pointer) % page != 0)
        reject("newBufferWithBytesNoCopy: the pointer is not aligned to a page");
    if (length == 0 || length % page != 0)
        reject("newBufferWithBytesNoCopy: " + std::to_string(length) + " bytes are no whole pages");
    if (length > maxBufferLength())
        reject("newBufferWithBytesNoCopy: " + std::to_string(length) +
               " bytes are more than maxBufferLength, " + std::to_string(maxBufferLength()));
    if ((options >> 4 & 15) == StorageModePrivate)
        reject("newBufferWithBytesNoCopy: a private buffer cannot alias memory");
    Buffer* b = new Buffer();
    b->memory_ = softmetal::adopt(static_cast<char*>(const_cast<void*>(pointer)), length);
    b->length_ = length;
    b->deallocator_ = deallocator;
    return b;
}

NS::String* Resource::label() const {
    return string_of(label_);
}
void Resource::setLabel(const NS::String* label) {
    alive("Resource::setLabel");
    label_ = label->utf8String();
}

NS::UInteger Buffer::length() const {
    alive("Buffer::length");
    return length_;
}
void* Buffer::contents() {
    alive("Buffer::contents");
    if (mode_ == StorageModePrivate) reject("Buffer::contents: the buffer is private to the device");
    return memory_;
}
uint64_t Buffer::gpuAddress() const {
    alive("Buffer::gpuAddress");
    return reinterpret_cast<uint64_t>(memory_);
}
void Buffer::didModifyRange(NS::Range) {
    if (mode_ != StorageModeManaged) reject("Buffer::didModifyRange: only for managed buffers");
}
void Buffer::addDebugMarker(const NS::String* marker, NS::Range range) {
    alive("Buffer::addDebugMarker");
    if (range.length > length_ || range.location > length_ - range.length)
        reject("Buffer::addDebugMarker: range outside the buffer");
    std::erase_if(markers_, [&](const Marker& m) { return m.begin == range.location; });
    markers_.push_back({marker->utf8String(), range.location, range.length});
}
void Buffer::removeAllDebugMarkers() {
    markers_.clear();
}
void Buffer::dispose() {
    if (owned_) {
        softmetal::free(memory_, length_);
        softmetal::allocated -= length_;
    }
    if (deallocator_) deallocator_(memory_, length_);
}

// --- Libraries and pipelines ---

Library* Device::newDefaultLibrary() {
    Library* l = new Library();
    l->files_ = softmetal::registrations();
    return l;
}

Library* Device::newLibrary(const NS::String* source, const CompileOptions*, NS::Error** error) {
    alive("Device::newLibrary");
    const std::string text = source->utf8String();
    for (const softmetal::Registration* file : softmetal::registrations()) {
        if (!text.starts_with("// " + std::string(file->file) + "\n")) continue;
        Library* l = new Library();
        l->files_ = {file};
        return l;
    }
    if (error)
        *error = NS::Error::make(
            "MTLLibraryErrorDomain", LibraryErrorCompileFailure,
            "no compiled kernels for the file that begins with: " + text.substr(0, text.find('\n')));
    return nullptr;
}

NS::String* Library::label() const {
    return string_of(label_);
}
void Library::setLabel(const NS::String* label) {
    label_ = label->utf8String();
}

Function* Library::newFunction(const NS::String* name) {
    return newFunction(name, nullptr, nullptr);
}

Function* Library::newFunction(const NS::String* name, const FunctionConstantValues* values,
                               NS::Error** error) {
    alive("Library::newFunction");
    for (const softmetal::Registration* file : files_) {
        for (const softmetal::Kernel& kernel : file->kernels) {
            if (name->utf8String() != std::string_view(kernel.name)) continue;
            Function* f = new Function();
            f->kernel_ = &kernel;
            f->file_ = file;
            if (values == nullptr) return f;
            for (const FunctionConstantValues::Value& v : values->values_) {
                for (const softmetal::FunctionConstant& c : file->constants) {
                    if (v.name.empty() ? static_cast<int>(v.index) != c.index : v.name != c.name) continue;
                    static constexpr DataType types[] = {DataTypeBool,  DataTypeChar,   DataTypeUChar,
                                                         DataTypeShort, DataTypeUShort, DataTypeInt,
                                                         DataTypeUInt,  DataTypeHalf,   DataTypeFloat};
                    if (types[static_cast<int>(c.type)] != v.type) {
                        f->release();
                        reject(std::string("newFunction: function constant ") + c.name +
                               " is of another type");
                    }
                    f->constants_.emplace_back(&c, v.bits);
                }
            }
            return f;
        }
    }
    if (error)
        *error = NS::Error::make("MTLLibraryErrorDomain", LibraryErrorFunctionNotFound,
                                 std::string("no kernel ") + name->utf8String());
    return nullptr;
}

NS::Array* Library::functionNames() const {
    std::vector<NS::Object*> names;
    for (const softmetal::Registration* file : files_)
        for (const softmetal::Kernel& kernel : file->kernels) names.push_back(string_of(kernel.name));
    return NS::Array::make(names)->autorelease();
}

NS::String* Function::name() const {
    return string_of(kernel_->name);
}

void FunctionConstantValues::setConstantValue(const void* value, DataType type, NS::UInteger index) {
    setConstantValue(value, type, static_cast<const NS::String*>(nullptr));
    values_.back().index = index;
}

void FunctionConstantValues::setConstantValue(const void* value, DataType type, const NS::String* name) {
    uint32_t bits = 0;
    const bool byte = type == DataTypeBool || type == DataTypeChar || type == DataTypeUChar;
    const bool word = type == DataTypeHalf || type == DataTypeShort || type == DataTypeUShort;
    std::memcpy(&bits, value, byte ? 1 : word ? 2 : 4);
    values_.push_back({0, name ? name->utf8String() : "", type, bits});
}

ComputePipelineState* Device::newComputePipelineState(const Function* function, NS::Error**) {
    alive("Device::newComputePipelineState");
    if (function == nullptr) reject("newComputePipelineState: no function");
    ComputePipelineState* p = new ComputePipelineState();
    p->kernel_ = function->kernel_;
    p->file_ = function->file_;
    p->constants_ = function->constants_;
    return p;
}

ComputePipelineState* Device::newComputePipelineState(const ComputePipelineDescriptor* descriptor,
                                                      NS::UInteger, void*, NS::Error** error) {
    ComputePipelineState* p = newComputePipelineState(descriptor->function_, error);
    if (descriptor->max_threads_ != 0) p->max_threads_ = descriptor->max_threads_;
    p->whole_simdgroups_ = descriptor->whole_simdgroups_;
    return p;
}

}  // namespace MTL
