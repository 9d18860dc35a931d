// Picture files of every format, whole, cut off and damaged.
// <cstdio> is first because jpeglib.h needs it.
#include <cstdio>

#include <gtest/gtest.h>
#include <jpeglib.h>
#include <png.h>
#include <webp/encode.h>

#include <cmath>
#include <random>

#include "base/base64.h"
#include "base/error.h"
#include "image/orientation.h"
#include "image/patches.h"

namespace smelt {
namespace {

Image drawn(int width, int height) {
    Image image{width, height, {}};
    for (int y = 0; y < height; ++y) {
        for (int x = 0; x < width; ++x) {
            for (const int v : {255 * x / width, 255 * y / height, x > y ? 200 : 30})
                image.rgb.push_back(static_cast<uint8_t>(v));
        }
    }
    return image;
}

std::string ppm(const Image& image) {
    return fmt::format("P6\n{} {}\n255\n", image.width, image.height) +
           std::string(image.rgb.begin(), image.rgb.end());
}

std::string png(const Image& image) {
    png_image png = {};
    png.version = PNG_IMAGE_VERSION;
    png.width = static_cast<png_uint_32>(image.width);
    png.height = static_cast<png_uint_32>(image.height);
    png.format = PNG_FORMAT_RGB;
    png_alloc_size_t n = 0;
    png_image_write_to_memory(&png, nullptr, &n, 0, image.rgb.data(), 0, nullptr);
    std::string bytes(n, '\0');
    EXPECT_NE(png_image_write_to_memory(&png, bytes.data(), &n, 0, image.rgb.data(), 0, nullptr), 0);
    return bytes.substr(0, n);
}

std::string jpeg(const Image& image, bool progressive) {
    jpeg_compress_struct info = {};
    jpeg_error_mgr errors = {};
    info.err = jpeg_std_error(&errors);
    jpeg_create_compress(&info);
    unsigned char* to = nullptr;
    unsigned long n = 0;
    jpeg_mem_dest(&info, &to, &n);
    info.image_width = static_cast<JDIMENSION>(image.width);
    info.image_height = static_cast<JDIMENSION>(image.height);
    info.input_components = 3;
    info.in_color_space = JCS_RGB;
    jpeg_set_defaults(&info);
    jpeg_set_quality(&info, 95, TRUE);
    if (progressive) jpeg_simple_progression(&info);
    jpeg_start_compress(&info, TRUE);
    while (info.next_scanline < info.image_height) {
        auto* row =
            const_cast<JSAMPLE*>(image.rgb.data() + size_t{3} * info.image_width * info.next_scanline);
        jpeg_write_scanlines(&info, &row, 1);
    }
    jpeg_finish_compress(&info);
    std::string bytes(reinterpret_cast<char*>(to), n);
    jpeg_destroy_compress(&info);
    std::free(to);
    return bytes;
}

std::string webp(const Image& image) {
    uint8_t* to = nullptr;
    const size_t n = WebPEncodeLosslessRGB(image.rgb.data(), image.width, image.height, 3 * image.width, &to);
    std::string bytes(reinterpret_cast<char*>(to), n);
    WebPFree(to);
    return bytes;
}

// Two by two: red, green, transparent, blue.
const std::string gif =
    *decode_base64("R0lGODlhAgACAKEAAP8AAAD/AAAA/wkJCSH5BAEAAAMALAAAAAACAAIAAAIDRDixADs=");

Image decoded(const std::string& bytes) {
    return decode_image(std::as_bytes(std::span(bytes)), "picture");
}

std::string problem(const std::string& bytes) {
    try {
        (void)decoded(bytes);
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(Decode, EveryFormatGivesThePixels) {
    const Image image = drawn(37, 23);
    for (const std::string& bytes : {ppm(image), png(image), webp(image)}) {
        const Image got = decoded(bytes);
        EXPECT_EQ(got.width, 37);
        EXPECT_EQ(got.height, 23);
        EXPECT_EQ(got.rgb, image.rgb);
    }
    for (const bool progressive : {false, true}) {
        const Image got = decoded(jpeg(image, progressive));
        ASSERT_EQ(got.rgb.size(), image.rgb.size());
        double off = 0;
        for (size_t i = 0; i < got.rgb.size(); ++i) off += std::abs(got.rgb[i] - image.rgb[i]);
        EXPECT_LT(off / static_cast<double>(got.rgb.size()), 6);
    }
}

TEST(Decode, WhatIsTransparentLiesOnWhite) {
    std::vector<uint8_t> rgba = {10, 20, 30, 255, 10, 20, 30, 0, 0, 0, 0, 128, 255, 0, 0, 255};
    png_image image = {};
    image.version = PNG_IMAGE_VERSION;
    image.width = image.height = 2;
    image.format = PNG_FORMAT_RGBA;
    std::string bytes(1000, '\0');
    png_alloc_size_t n = bytes.size();
    ASSERT_NE(png_image_write_to_memory(&image, bytes.data(), &n, 0, rgba.data(), 0, nullptr), 0);
    const Image got = decoded(bytes.substr(0, n));
    EXPECT_EQ(std::vector<uint8_t>(got.rgb.begin(), got.rgb.begin() + 6),
              (std::vector<uint8_t>{10, 20, 30, 255, 255, 255}));
}

// A camera that was held otherwise: where the picture's first corner lies, by Exif's number.
TEST(Decode, PicturesStandAsTheCameraNotes) {
    Image image{3, 2, std::vector<uint8_t>(18)};
    for (size_t i = 0; i < image.rgb.size(); ++i) image.rgb[i] = static_cast<uint8_t>(10 * (i / 3));
    const std::vector<std::vector<uint8_t>> expected = {
        {0, 10, 20, 30, 40, 50}, {20, 10, 0, 50, 40, 30}, {50, 40, 30, 20, 10, 0}, {30, 40, 50, 0, 10, 20},
        {0, 30, 10, 40, 20, 50}, {30, 0, 40, 10, 50, 20}, {50, 20, 40, 10, 30, 0}, {20, 50, 10, 40, 0, 30}};
    for (int orientation = 1; orientation <= 8; ++orientation) {
        const Image got = upright(image, orientation);
        EXPECT_EQ(got.width, orientation < 5 ? 3 : 2) << orientation;
        std::vector<uint8_t> first;
        for (size_t i = 0; i < got.rgb.size(); i += 3) first.push_back(got.rgb[i]);
        EXPECT_EQ(first, expected[static_cast<size_t>(orientation - 1)]) << orientation;
    }
    // Into a file: the marker behind the first two bytes.
    const std::string bytes = jpeg(drawn(40, 20), false);
    const std::string exif(
        "\xff\xe1\0\x22"
        "Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
        36);
    const Image turned = decoded(bytes.substr(0, 2) + exif + bytes.substr(2));
    EXPECT_EQ(turned.width, 20);
    EXPECT_EQ(turned.height, 40);
}

TEST(Decode, FirstFrameOfAGif) {
    const Image got = decoded(gif);
    EXPECT_EQ(got.width, 2);
    EXPECT_EQ(got.height, 2);
    EXPECT_EQ(got.rgb, (std::vector<uint8_t>{255, 0, 0, 0, 255, 0, 255, 255, 255, 0, 0, 255}));
}

TEST(Decode, SizesAreBoundedBeforeAnythingIsDecoded) {
    EXPECT_NE(problem("P6 99999 1 255\n").find("16384 pixels a side"), std::string::npos);
    EXPECT_NE(problem("P6 16384 16384 255\n").find("64.0 million"), std::string::npos);
    EXPECT_NE(problem("P6 0 5 255\n"), "");
    EXPECT_NE(problem("P6 4 4 255\nxy").find("48 bytes"), std::string::npos);
    std::string huge = png(drawn(4, 4));
    huge[18] = 0x7f;  // of the width
    EXPECT_NE(problem(huge), "");
    EXPECT_NE(problem("hello").find("another kind of file"), std::string::npos);
    EXPECT_NE(problem(""), "");
}

TEST(Decode, DamagedFilesAreRefusedOrRead) {
    std::mt19937 random(7);
    const Image image = drawn(40, 30);
    for (const std::string& whole :
         {ppm(image), png(image), jpeg(image, false), jpeg(image, true), webp(image), gif}) {
        for (size_t n = 0; n < whole.size(); n += 1 + whole.size() / 97) (void)problem(whole.substr(0, n));
        for (int round = 0; round < 400; ++round) {
            std::string damaged = whole;
            for (int i = 0; i < 1 + round % 8; ++i)
                damaged[random() % damaged.size()] = static_cast<char>(random());
            try {
                const Image got = decoded(damaged);
                EXPECT_EQ(got.rgb.size(),
                          static_cast<size_t>(got.width) * static_cast<size_t>(got.height) * 3);
            } catch (const Error& e) {
                EXPECT_NE(std::string(e.what()), "");
            }
        }
    }
}

TEST(Patches, SizesAreWholeTokensWithinTheBounds) {
    const PatchRules rules{.min_pixels = 4096, .max_pixels = 65536};
    EXPECT_EQ(patched_size(96, 64, rules), (std::array<int, 2>{96, 64}));
    EXPECT_EQ(patched_size(200, 150, rules), (std::array<int, 2>{192, 160}));
    EXPECT_EQ(patched_size(50, 333, rules), (std::array<int, 2>{64, 320}));
    for (const auto& [w, h] : {std::pair(1, 1), {4000, 3000}, {16384, 100}, {3, 500}}) {
        const auto [width, height] = patched_size(w, h, rules);
        EXPECT_EQ(width % 32 + height % 32, 0);
        EXPECT_LE(width * height, 65536 + 32 * 16384) << w << " x " << h;
        EXPECT_GE(width * height, 4096);
    }
    EXPECT_THROW(patched_size(1000, 1, rules), Error);
    EXPECT_THROW(patched_size(0, 1, rules), Error);
}

TEST(Base64, IsReadOrRefused) {
    EXPECT_EQ(decode_base64("aGVsbG8="), "hello");
    EXPECT_EQ(decode_base64("aGVsbG8"), "hello");
    EXPECT_EQ(decode_base64("aGVs\nbG8="), "hello");
    EXPECT_EQ(decode_base64("-_8="), decode_base64("+/8="));
    EXPECT_EQ(decode_base64(""), "");
    for (const char* bad : {"a", "a===", "aGVs=bG8", "aG\x80Vs", "aGVsbG8=="})
        EXPECT_EQ(decode_base64(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace smelt
