# The Metal backend: on macOS with Apple's headers; elsewhere, for tests, on the software device of tests/softmetal.
find_package(Python3 COMPONENTS Interpreter)

set(metal_backend_folder ${CMAKE_SOURCE_DIR}/src/backend/metal)
file(GLOB metal_sources CONFIGURE_DEPENDS ${metal_backend_folder}/*.cpp)
file(GLOB metal_kernels CONFIGURE_DEPENDS ${metal_backend_folder}/*.metal)
file(GLOB metal_kernel_headers CONFIGURE_DEPENDS ${metal_backend_folder}/*.h ${CMAKE_SOURCE_DIR}/src/quant/*.h
    ${CMAKE_SOURCE_DIR}/src/base/half.h ${CMAKE_SOURCE_DIR}/src/base/device_fn.h ${CMAKE_SOURCE_DIR}/src/sampling/draw_row.h)

# metal_generated(MODE OUT_LIST FILES...): the C++ that scripts/metal_bindings.py makes of kernel files.
function(metal_generated mode out_list)
    set(outputs "")
    foreach(kernel ${ARGN})
        get_filename_component(stem ${kernel} NAME_WE)
        set(output ${CMAKE_CURRENT_BINARY_DIR}/metal_${mode}/${stem}.cpp)
        add_custom_command(OUTPUT ${output}
            COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/metal_${mode}
            COMMAND ${Python3_EXECUTABLE} ${CMAKE_SOURCE_DIR}/scripts/metal_bindings.py ${mode} ${kernel} -o ${output}
                --cxx ${CMAKE_CXX_COMPILER} -I ${CMAKE_SOURCE_DIR}/src
            DEPENDS ${kernel} ${metal_kernel_headers} ${CMAKE_SOURCE_DIR}/scripts/metal_bindings.py
            COMMENT "Metal kernels (${mode}): ${stem}" VERBATIM)
        list(APPEND outputs ${output})
    endforeach()
    set(${out_list} ${outputs} PARENT_SCOPE)
endfunction()

# The kernels' text, for MTLDevice's compiler: std::span<const char* const> metal_kernel_sources().
function(metal_kernel_text out_list)
    metal_generated(source texts ${metal_kernels})
    set(list ${CMAKE_CURRENT_BINARY_DIR}/metal_source/all_sources.cpp)
    set(declarations "")
    set(names "")
    foreach(kernel ${metal_kernels})
        get_filename_component(stem ${kernel} NAME_WE)
        string(APPEND declarations "extern const char* const metal_source_${stem};\n")
        string(APPEND names "metal_source_${stem}, ")
    endforeach()
    file(CONFIGURE OUTPUT ${list} @ONLY CONTENT [[// Written by cmake/metal.cmake.
#include "backend/metal/kernel_sources.h"

@declarations@
namespace smelt {

std::span<const char* const> metal_kernel_sources() {
    static const char* const all[] = {@names@};
    return all;
}

}  // namespace smelt
]])
    set(${out_list} ${texts} ${list} PARENT_SCOPE)
endfunction()

# A library whose objects define metal_backend_info() and make_metal_backend(); what links it has the backend.
function(metal_library name)
    metal_kernel_text(texts)
    add_library(${name} OBJECT ${metal_sources} ${texts})
    target_include_directories(${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(${name} PUBLIC smelt_base smelt_quant)
endfunction()

# On macOS: Apple's C++ headers, given by METAL_CPP or fetched, and the frameworks.
function(apple_metal name)
    set(METAL_CPP "" CACHE PATH "Folder of Apple's metal-cpp (Metal/Metal.hpp); empty: downloaded")
    set(folder ${METAL_CPP})
    if(NOT folder)
        include(FetchContent)
        FetchContent_Declare(metal_cpp URL https://developer.apple.com/metal/cpp/files/metal-cpp_macOS14.2_iOS17.2.zip)
        FetchContent_MakeAvailable(metal_cpp)
        set(folder ${metal_cpp_SOURCE_DIR})
    endif()
    target_include_directories(${name} SYSTEM PRIVATE ${folder})
    # The backend room holds it in place of metal_none.cpp, whose functions it defines.
    target_sources(smelt_backend PRIVATE $<TARGET_OBJECTS:${name}>)
    get_target_property(sources smelt_backend SOURCES)
    list(REMOVE_ITEM sources backend/metal_none.cpp)
    set_target_properties(smelt_backend PROPERTIES SOURCES "${sources}")
    target_link_libraries(smelt_backend PUBLIC "-framework Foundation" "-framework Metal")
    set_property(GLOBAL APPEND PROPERTY SMELT_ROOMS ${name})
    set_property(GLOBAL APPEND PROPERTY SMELT_LIBS "-framework Foundation" "-framework Metal")
    # A kernel that does not compile shall fail the build, not the start; the compiler comes with Xcode.
    execute_process(COMMAND xcrun --sdk macosx --find metal OUTPUT_QUIET ERROR_QUIET RESULT_VARIABLE no_compiler)
    if(NOT no_compiler)
        foreach(kernel ${metal_kernels})
            get_filename_component(stem ${kernel} NAME_WE)
            set(output ${CMAKE_CURRENT_BINARY_DIR}/metal_air/${stem}.air)
            add_custom_command(OUTPUT ${output}
                COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_CURRENT_BINARY_DIR}/metal_air
                COMMAND xcrun --sdk macosx metal -std=metal3.1 -I ${CMAKE_SOURCE_DIR}/src -c ${kernel} -o ${output}
                DEPENDS ${kernel} ${metal_kernel_headers} VERBATIM)
            list(APPEND compiled ${output})
        endforeach()
        add_custom_target(metal_kernels_compile ALL DEPENDS ${compiled})
    endif()
endfunction()

# --- The software device ---

function(software_metal_device)
    include(CheckCXXSourceRuns)
    find_package(boost_context 1.74 CONFIG REQUIRED)
    # Fused multiply-add is a call per element without these; the tests run where they are built.
    if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
        set(CMAKE_REQUIRED_FLAGS "-mavx2 -mfma")
        check_cxx_source_runs("#include <immintrin.h>
            int main() { volatile float x = 2; return static_cast<int>(_mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(x), _mm_set_ss(x), _mm_set_ss(-4)))); }"
            SMELT_HOST_HAS_FMA)
    endif()
    set(softmetal ${CMAKE_SOURCE_DIR}/tests/softmetal)
    add_library(softmetal STATIC ${softmetal}/commands.cpp ${softmetal}/device.cpp ${softmetal}/execute.cpp ${softmetal}/fibers.cpp
        ${softmetal}/foundation.cpp ${softmetal}/matrix.cpp ${softmetal}/memory.cpp ${softmetal}/registration.cpp ${softmetal}/residency.cpp
        ${softmetal}/threadgroup.cpp)
    target_include_directories(softmetal PUBLIC ${softmetal}/include ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/src)
    target_compile_options(softmetal PRIVATE "$<$<BOOL:${SMELT_HOST_HAS_FMA}>:-mavx2;-mfma>")
    target_link_libraries(softmetal PRIVATE Boost::context fmt::fmt PUBLIC Threads::Threads)
endfunction()

# Kernel files compiled for the software device.
function(software_metal_kernels name)
    metal_generated(soft generated ${ARGN})
    add_library(${name} OBJECT ${generated})
    target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests/softmetal/msl ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/src)
    # MSL's char is signed. Template code for all formats has comparisons and parameters that one of them does not need.
    target_compile_options(${name} PRIVATE -O2 -fsigned-char -Wno-shadow -Wno-unknown-pragmas -Wno-unused-parameter -Wno-unused-variable
        -Wno-unused-function -Wno-type-limits $<$<CXX_COMPILER_ID:GNU>:-Wno-literal-suffix -Wno-maybe-uninitialized>
        $<$<CXX_COMPILER_ID:Clang>:-Wno-user-defined-literals -Wno-unused-const-variable>
        "$<$<BOOL:${SMELT_HOST_HAS_FMA}>:-mavx2;-mfma>")
endfunction()

# With SMELT_NVCC, the path of nvcc: the same kernels on an NVIDIA GPU. Targets: metal_cuda (tests and benchmark);
# bench/metal_on_cuda.sh runs them.
function(metal_on_cuda)
    set(nvcc ${SMELT_NVCC} -std=c++20 -arch=sm_90 -O3 -lineinfo -fmad=false --expt-relaxed-constexpr -x cu
        # A thread-local attribute, a literal suffix, unused variables, code that a format does not reach
        -diag-suppress 1835,2506,177,128 -Xcompiler -fsigned-char,-fPIC -I${CMAKE_SOURCE_DIR}/tests/softmetal/cuda
        -I${CMAKE_SOURCE_DIR}/tests/softmetal/include -I${CMAKE_SOURCE_DIR}/tests -I${CMAKE_SOURCE_DIR}/src)
    set(softmetal ${CMAKE_SOURCE_DIR}/tests/softmetal)
    metal_generated(cuda generated ${metal_kernels})
    metal_generated(cuda generated_tests ${softmetal}/kernels/basic.metal)
    foreach(source ${generated} ${generated_tests} ${softmetal}/cuda/execute.cu ${CMAKE_SOURCE_DIR}/bench/metal_cuda_bench.cu)
        get_filename_component(stem ${source} NAME_WE)
        set(object ${CMAKE_CURRENT_BINARY_DIR}/metal_cuda/${stem}.o)
        # The compiler orders loads by how many threadgroups it thinks will share a multiprocessor: here five.
        set(registers $<$<STREQUAL:${stem},matmul_row>:-maxrregcount=96>)
        add_custom_command(OUTPUT ${object} COMMAND ${nvcc} ${registers} -c ${source} -o ${object}
            DEPENDS ${source} ${softmetal}/cuda/metal_stdlib ${softmetal}/launch.h ${softmetal}/execute.h VERBATIM COMMAND_EXPAND_LISTS)
        set_source_files_properties(${object} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
        set(${stem}_object ${object})
        list(APPEND objects ${object})
    endforeach()
    list(REMOVE_ITEM objects ${basic_object} ${metal_cuda_bench_object} ${execute_object})
    get_filename_component(cuda_bin ${SMELT_NVCC} DIRECTORY)
    set(cudart ${cuda_bin}/../lib64/libcudart_static.a rt dl Threads::Threads)
    # The device, with a GPU in place of fibers.
    add_library(softmetal_cuda STATIC EXCLUDE_FROM_ALL ${softmetal}/commands.cpp ${softmetal}/device.cpp ${softmetal}/foundation.cpp
        ${softmetal}/registration.cpp ${softmetal}/residency.cpp ${execute_object})
    target_include_directories(softmetal_cuda PUBLIC ${softmetal}/include ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/src)
    target_link_libraries(softmetal_cuda PRIVATE fmt::fmt PUBLIC ${cudart})
    add_executable(metal_cuda_bench EXCLUDE_FROM_ALL ${metal_cuda_bench_object} ${objects})
    set_target_properties(metal_cuda_bench PROPERTIES LINKER_LANGUAGE CXX)
    target_link_libraries(metal_cuda_bench PRIVATE softmetal_cuda smelt_quant)
    set(tests ${CMAKE_SOURCE_DIR}/tests)
    add_executable(metal_cuda_ops_test EXCLUDE_FROM_ALL ${tests}/conformance/ops_test.cpp ${tests}/conformance/attention_test.cpp
        ${tests}/conformance/counts_test.cpp ${tests}/conformance/experts_test.cpp ${tests}/conformance/matmul_test.cpp
        ${tests}/conformance/rig.cpp ${objects}
        $<TARGET_OBJECTS:smelt_metal>)
    target_include_directories(metal_cuda_ops_test PRIVATE ${tests})
    target_link_libraries(metal_cuda_ops_test PRIVATE smelt_backend softmetal_cuda GTest::gtest GTest::gtest_main)
    add_executable(metal_cuda_device_test EXCLUDE_FROM_ALL ${softmetal}/softmetal_test.cpp ${basic_object})
    target_link_libraries(metal_cuda_device_test PRIVATE softmetal_cuda GTest::gtest GTest::gtest_main)
    add_custom_target(metal_cuda DEPENDS metal_cuda_bench metal_cuda_ops_test metal_cuda_device_test)
endfunction()
