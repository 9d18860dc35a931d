# The CUDA backend's kernels: their text always, machine code where nvcc is and SMELT_CUDA_CUBINS asks for it; and for
# tests the software GPU of tests/softcuda, on which they run as C++.
set(cuda_kernel_folder ${CMAKE_SOURCE_DIR}/src/backend/cuda/kernels)
file(GLOB cuda_kernels CONFIGURE_DEPENDS ${cuda_kernel_folder}/*.cu)
file(GLOB cuda_kernel_headers CONFIGURE_DEPENDS ${cuda_kernel_folder}/*.cuh ${CMAKE_SOURCE_DIR}/src/quant/block*.h)
list(APPEND cuda_kernel_headers ${CMAKE_SOURCE_DIR}/src/backend/cuda/kernel_args.h ${CMAKE_SOURCE_DIR}/src/backend/cuda/tile_args.h ${CMAKE_SOURCE_DIR}/src/quant/format_list.h
    ${CMAKE_SOURCE_DIR}/src/base/half.h ${CMAKE_SOURCE_DIR}/src/base/device_fn.h ${CMAKE_SOURCE_DIR}/src/sampling/draw_row.h)

# The formats of weights, of which files that say SMELT_FORMAT have a unit each.
file(READ ${CMAKE_SOURCE_DIR}/src/quant/format_list.h cuda_format_list)
string(REGEX MATCHALL "X\\([A-Za-z0-9_]+, -?[0-9]+" cuda_format_rows "${cuda_format_list}")
set(cuda_formats "")
foreach(row ${cuda_format_rows})
    string(REGEX REPLACE "X\\(([A-Za-z0-9_]+),.*" "\\1" format "${row}")
    list(APPEND cuda_formats ${format})
endforeach()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/quant/format_list.h)

# Calls BODY(unit file format) for each unit.
macro(cuda_for_each_unit body)
    foreach(kernel ${cuda_kernels})
        get_filename_component(stem ${kernel} NAME_WE)
        file(STRINGS ${kernel} has_format REGEX "FORMAT_KERNEL\\(" LIMIT_COUNT 1)
        if(has_format)
            foreach(format ${cuda_formats})
                cmake_language(CALL ${body} ${stem}_${format} ${kernel} ${format})
            endforeach()
        else()
            cmake_language(CALL ${body} ${stem} ${kernel} "")
        endif()
    endforeach()
endmacro()

find_program(SMELT_CUDA_NVCC nvcc PATHS /usr/local/cuda/bin)
set(SMELT_CUDA_TARGETS "-gencode=arch=compute_90a,code=sm_90a;-gencode=arch=compute_80,code=compute_80" CACHE STRING
    "What nvcc compiles kernels for: Hopper's machine code; for others, PTX that the driver compiles")

set(cuda_generated ${CMAKE_BINARY_DIR}/cuda)
file(MAKE_DIRECTORY ${cuda_generated})
set(cuda_units "")     # "name|file|format|fatbin"
set(cuda_fatbins "")
function(cuda_unit name file format)
    file(RELATIVE_PATH relative ${CMAKE_SOURCE_DIR}/src ${file})
    set(fatbin "")
    if(SMELT_CUDA_CUBINS AND SMELT_CUDA_NVCC)
        set(fatbin ${cuda_generated}/${name}.fatbin)
        set(define "")
        if(format)
            set(define -DSMELT_FORMAT=${format})
        endif()
        add_custom_command(OUTPUT ${fatbin}
            COMMAND ${SMELT_CUDA_NVCC} -std=c++20 -O3 -fmad=false --expt-relaxed-constexpr ${SMELT_CUDA_TARGETS} -I ${CMAKE_SOURCE_DIR}/src
                ${define} -fatbin -o ${fatbin} ${file}
            DEPENDS ${file} ${cuda_kernel_headers} COMMENT "CUDA kernels: ${name}" VERBATIM COMMAND_EXPAND_LISTS)
        set(cuda_fatbins ${cuda_fatbins} ${fatbin} PARENT_SCOPE)
    endif()
    set(cuda_units ${cuda_units} "${name}|${relative}|${format}|${fatbin}" PARENT_SCOPE)
endfunction()
cuda_for_each_unit(cuda_unit)

set(cuda_kernel_files_source ${cuda_generated}/kernel_files.cpp)
string(REPLACE ";" "\n" cuda_unit_lines "${cuda_units}")
file(CONFIGURE OUTPUT ${cuda_generated}/units.txt CONTENT "${cuda_unit_lines}\n" @ONLY)
string(REPLACE ";" "\n" cuda_text_lines "${cuda_kernels};${cuda_kernel_headers}")
file(CONFIGURE OUTPUT ${cuda_generated}/texts.txt CONTENT "${cuda_text_lines}\n" @ONLY)
add_custom_command(OUTPUT ${cuda_kernel_files_source}
    COMMAND ${CMAKE_COMMAND} -DOUT=${cuda_kernel_files_source} -DUNITS=${cuda_generated}/units.txt -DTEXTS=${cuda_generated}/texts.txt
        -DROOT=${CMAKE_SOURCE_DIR}/src -P ${CMAKE_SOURCE_DIR}/cmake/cuda_files.cmake
    DEPENDS ${cuda_kernels} ${cuda_kernel_headers} ${cuda_fatbins} ${cuda_generated}/units.txt ${cuda_generated}/texts.txt
        ${CMAKE_SOURCE_DIR}/cmake/cuda_files.cmake VERBATIM)

# --- The software GPU: libcuda.so.1 and libnvrtc.so.13 in a folder of their own, which LD_LIBRARY_PATH names ---

function(software_cuda)
    set(folder ${CMAKE_SOURCE_DIR}/tests/softcuda)
    set(generated "")
    set(part 0)
    set(text "")
    set(in_part 0)
    foreach(kernel ${cuda_kernels})
        file(STRINGS ${kernel} has_format REGEX "FORMAT_KERNEL\\(" LIMIT_COUNT 1)
        file(RELATIVE_PATH relative ${CMAKE_SOURCE_DIR}/src ${kernel})
        get_filename_component(stem ${kernel} NAME_WE)
        if(NOT has_format)
            file(CONFIGURE OUTPUT ${cuda_generated}/soft_${stem}.cpp CONTENT "#include \"${relative}\"\n" @ONLY)
            list(APPEND generated ${cuda_generated}/soft_${stem}.cpp)
            continue()
        endif()
        # Several formats a file: most of the time goes into the headers.
        set(text "")
        set(in_part 0)
        foreach(format ${cuda_formats})
            string(APPEND text "#define SMELT_FORMAT ${format}\n#include \"${relative}\"\n#undef SMELT_FORMAT\n")
            math(EXPR in_part "${in_part} + 1")
            if(in_part EQUAL 7)
                file(CONFIGURE OUTPUT ${cuda_generated}/soft_${stem}_${part}.cpp CONTENT "${text}" @ONLY)
                list(APPEND generated ${cuda_generated}/soft_${stem}_${part}.cpp)
                math(EXPR part "${part} + 1")
                set(text "")
                set(in_part 0)
            endif()
        endforeach()
        if(text)
            file(CONFIGURE OUTPUT ${cuda_generated}/soft_${stem}_${part}.cpp CONTENT "${text}" @ONLY)
            list(APPEND generated ${cuda_generated}/soft_${stem}_${part}.cpp)
            math(EXPR part "${part} + 1")
        endif()
    endforeach()
    add_library(softcuda SHARED ${generated} ${folder}/driver.cpp)
    target_compile_definitions(softcuda PRIVATE SMELT_SOFTCUDA)
    target_include_directories(softcuda PRIVATE ${CMAKE_SOURCE_DIR}/tests ${CMAKE_SOURCE_DIR}/src)
    target_compile_options(softcuda PRIVATE -O2 -Wno-unknown-pragmas -Wno-unused-function -Wno-type-limits -Wno-missing-field-initializers
        -Wno-shadow "$<$<BOOL:${SMELT_HOST_HAS_FMA}>:-mavx2;-mfma>"
        $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
    target_link_libraries(softcuda PRIVATE softmetal fmt::fmt)
    target_link_options(softcuda PRIVATE LINKER:--exclude-libs,ALL)
    set_target_properties(softcuda PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${cuda_generated}/soft OUTPUT_NAME cuda SUFFIX .so.1)
    add_library(softnvrtc SHARED ${folder}/nvrtc.cpp)
    set_target_properties(softnvrtc PROPERTIES LIBRARY_OUTPUT_DIRECTORY ${cuda_generated}/soft OUTPUT_NAME nvrtc SUFFIX .so.13)
endfunction()
