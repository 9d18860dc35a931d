// The formats of picture files, by their first bytes. What a file says of its size is checked before anything
// is decoded; what libraries find wrong becomes an Error.
// <cstdio> is first because jpeglib.h needs it.
#include <cstdio>

#include <gif_lib.h>
#include <jpeglib.h>
#include <png.h>
#include <webp/decode.h>

#include <algorithm>
#include <charconv>
#include <csetjmp>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "base/error.h"
#include "image/image.h"
#include "image/orientation.h"

namespace smelt {

namespace {

// A file's bytes, what messages call it, and what it may be.
struct Source {
    std::span<const std::byte> bytes;
    std::string_view name;
    const ImageLimits& limits;

    const uint8_t* data() const { return reinterpret_cast<const uint8_t*>(bytes.data()); }
    std::string_view text() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
    [[noreturn]] void fail(std::string_view kind, std::string_view what) const {
        throw Error("{}: {}: {}", name, kind, what);
    }
    Image sized(int64_t width, int64_t height) const {
        if (width < 1 || height < 1 || width > limits.max_side || height > limits.max_side ||
            width * height > limits.max_pixels) {
            throw Error(
                "{}: expected a picture of 1 to {} pixels a side and {:.1f} million in all, found {} x {}",
                name, limits.max_side, static_cast<double>(limits.max_pixels) / 1e6, width, height);
        }
        Image image{static_cast<int>(width), static_cast<int>(height)};
        image.rgb.resize(static_cast<size_t>(width) * static_cast<size_t>(height) * 3);
        return image;
    }
};

// What is transparent lies on white.
void put(uint8_t* rgb, const uint8_t* rgba) {
    for (int c = 0; c < 3; ++c)
        rgb[c] = static_cast<uint8_t>((rgba[c] * rgba[3] + 255 * (255 - rgba[3]) + 127) / 255);
}

// "P6 width height 255" with a space after it, then bytes.
Image decode_ppm(const Source& s) {
    std::string_view text = s.text().substr(2);
    int64_t numbers[3] = {};
    for (int64_t& n : numbers) {
        while (!text.empty() && std::strchr(" \t\r\n", text[0]) != nullptr && text[0] != '\0')
            text.remove_prefix(1);
        const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
        if (error != std::errc{}) s.fail("PPM", "expected width, height and 255");
        text.remove_prefix(static_cast<size_t>(end - text.data()));
    }
    if (numbers[2] != 255)
        s.fail("PPM", fmt::format("expected 255 as the largest value, found {}", numbers[2]));
    Image image = s.sized(numbers[0], numbers[1]);
    if (text.size() < image.rgb.size() + 1) {
        s.fail("PPM", fmt::format("expected {} bytes of pixels, found {}", image.rgb.size(), text.size()));
    }
    std::memcpy(image.rgb.data(), text.data() + 1, image.rgb.size());
    return image;
}

Image decode_png(const Source& s) {
    png_image png = {};
    png.version = PNG_IMAGE_VERSION;
    const std::unique_ptr<png_image, decltype(&png_image_free)> freed(&png, png_image_free);
    if (png_image_begin_read_from_memory(&png, s.bytes.data(), s.bytes.size()) == 0)
        s.fail("PNG", png.message);
    Image image = s.sized(png.width, png.height);
    const png_color white = {255, 255, 255};
    png.format = PNG_FORMAT_RGB;
    if (png_image_finish_read(&png, &white, image.rgb.data(), 0, nullptr) == 0) s.fail("PNG", png.message);
    return image;
}

// libjpeg reports errors by a function that must not return.
struct JpegErrors {
    jpeg_error_mgr manager = {};
    std::jmp_buf back = {};
    char message[JMSG_LENGTH_MAX] = {};
};
void leave_jpeg(j_common_ptr info) {
    auto* errors = reinterpret_cast<JpegErrors*>(info->err);
    errors->manager.format_message(info, errors->message);
    std::longjmp(errors->back, 1);
}
void say_nothing(j_common_ptr) {}
// A progressive file may have any number of passes over the picture, a few bytes each.
void limit_passes(j_common_ptr info) {
    constexpr int most = 100;
    if (reinterpret_cast<jpeg_decompress_struct*>(info)->input_scan_number <= most) return;
    std::strcpy(reinterpret_cast<JpegErrors*>(info->err)->message, "more than 100 passes");
    std::longjmp(reinterpret_cast<JpegErrors*>(info->err)->back, 1);
}

// Between setjmp and longjmp nothing is made that has to be destroyed. False: errors.message says why.
bool read_jpeg_header(jpeg_decompress_struct& info, JpegErrors& errors, const Source& s) {
    if (setjmp(errors.back) != 0) return false;
    jpeg_create_decompress(&info);
    jpeg_mem_src(&info, s.data(), static_cast<unsigned long>(s.bytes.size()));
    jpeg_save_markers(&info, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(&info, TRUE);
    info.out_color_space =
        info.jpeg_color_space == JCS_CMYK || info.jpeg_color_space == JCS_YCCK ? JCS_CMYK : JCS_RGB;
    jpeg_calc_output_dimensions(&info);
    return true;
}
bool read_jpeg_rows(jpeg_decompress_struct& info, JpegErrors& errors, uint8_t* to, size_t stride) {
    jpeg_progress_mgr progress = {};
    progress.progress_monitor = limit_passes;
    if (setjmp(errors.back) != 0) return false;
    info.progress = &progress;
    jpeg_start_decompress(&info);
    while (info.output_scanline < info.output_height) {
        uint8_t* row = to + stride * info.output_scanline;
        jpeg_read_scanlines(&info, &row, 1);
    }
    jpeg_finish_decompress(&info);
    return true;
}

int orientation_of(const jpeg_decompress_struct& info) {
    for (const auto* m = info.marker_list; m != nullptr; m = m->next) {
        const int orientation = read_orientation({m->data, m->data_length});
        if (orientation != 1) return orientation;
    }
    return 1;
}

Image decode_jpeg(const Source& s) {
    JpegErrors errors;
    jpeg_decompress_struct info = {};
    info.err = jpeg_std_error(&errors.manager);
    errors.manager.error_exit = leave_jpeg;
    errors.manager.output_message = say_nothing;
    const std::unique_ptr<jpeg_decompress_struct, decltype(&jpeg_destroy_decompress)> destroyed(
        &info, jpeg_destroy_decompress);
    if (!read_jpeg_header(info, errors, s)) s.fail("JPEG", errors.message);
    const int orientation = orientation_of(info);
    Image image = s.sized(info.output_width, info.output_height);
    const auto width = static_cast<size_t>(image.width);
    const size_t stride = width * static_cast<size_t>(info.out_color_components);
    if (info.out_color_space == JCS_RGB) {
        if (!read_jpeg_rows(info, errors, image.rgb.data(), stride)) s.fail("JPEG", errors.message);
        return upright(std::move(image), orientation);
    }
    // CMYK; Adobe's programs write it inverted.
    std::vector<uint8_t> inks(stride * static_cast<size_t>(image.height));
    if (!read_jpeg_rows(info, errors, inks.data(), stride)) s.fail("JPEG", errors.message);
    const bool inverted = info.saw_Adobe_marker != 0;
    for (size_t i = 0; i < width * static_cast<size_t>(image.height); ++i) {
        const auto light = [&](size_t c) { return inverted ? inks[4 * i + c] : 255 - inks[4 * i + c]; };
        for (size_t c = 0; c < 3; ++c) image.rgb[3 * i + c] = static_cast<uint8_t>(light(c) * light(3) / 255);
    }
    return upright(std::move(image), orientation);
}

Image decode_webp(const Source& s) {
    WebPBitstreamFeatures features = {};
    if (WebPGetFeatures(s.data(), s.bytes.size(), &features) != VP8_STATUS_OK)
        s.fail("WebP", "the header is broken");
    if (features.has_animation != 0) s.fail("WebP", "animations are not read");
    Image image = s.sized(features.width, features.height);
    const size_t n = static_cast<size_t>(image.width) * static_cast<size_t>(image.height);
    std::vector<uint8_t> rgba(4 * n);
    if (WebPDecodeRGBAInto(s.data(), s.bytes.size(), rgba.data(), rgba.size(), 4 * image.width) == nullptr)
        s.fail("WebP", "the pixels are broken or cut off");
    for (size_t i = 0; i < n; ++i) put(&image.rgb[3 * i], &rgba[4 * i]);
    return image;
}

struct GifReader {
    std::span<const std::byte> rest;
};
int read_gif(GifFileType* file, GifByteType* to, int n) {
    auto& reader = *static_cast<GifReader*>(file->UserData);
    const size_t got = std::min(static_cast<size_t>(std::max(n, 0)), reader.rest.size());
    std::memcpy(to, reader.rest.data(), got);
    reader.rest = reader.rest.subspan(got);
    return static_cast<int>(got);
}
struct CloseGif {
    void operator()(GifFileType* file) const { DGifCloseFile(file, nullptr); }
};

// One frame on a white canvas of the file's size.
void read_gif_frame(GifFileType& file, const Source& s, int transparent, Image& image) {
    if (DGifGetImageDesc(&file) != GIF_OK) s.fail("GIF", "the frame is broken");
    const GifImageDesc& d = file.Image;
    const ColorMapObject* colours = d.ColorMap != nullptr ? d.ColorMap : file.SColorMap;
    if (colours == nullptr) s.fail("GIF", "expected a table of colours, found none");
    const bool fits = d.Left >= 0 && d.Top >= 0 && d.Width > 0 && d.Height > 0 &&
                      d.Left + d.Width <= image.width && d.Top + d.Height <= image.height;
    if (!fits) s.fail("GIF", "the frame does not lie in the picture");
    std::vector<GifPixelType> row(static_cast<size_t>(d.Width));
    constexpr int first[] = {0, 4, 2, 1}, step[] = {8, 8, 4, 2};
    for (int pass = 0; pass < (d.Interlace ? 4 : 1); ++pass) {
        for (int y = d.Interlace ? first[pass] : 0; y < d.Height; y += d.Interlace ? step[pass] : 1) {
            if (DGifGetLine(&file, row.data(), d.Width) != GIF_OK)
                s.fail("GIF", "the pixels are broken or cut off");
            uint8_t* to = &image.rgb[(static_cast<size_t>(d.Top + y) * static_cast<size_t>(image.width) +
                                      static_cast<size_t>(d.Left)) *
                                     3];
            for (const int pixel : row) {
                if (pixel != transparent && pixel < colours->ColorCount) {
                    const GifColorType& c = colours->Colors[pixel];
                    to[0] = c.Red;
                    to[1] = c.Green;
                    to[2] = c.Blue;
                }
                to += 3;
            }
        }
    }
}

Image decode_gif(const Source& s) {
    GifReader reader{s.bytes};
    int error = 0;
    const std::unique_ptr<GifFileType, CloseGif> file(DGifOpen(&reader, read_gif, &error));
    if (!file) s.fail("GIF", "the header is broken");
    Image image = s.sized(file->SWidth, file->SHeight);
    std::ranges::fill(image.rgb, uint8_t{255});
    int transparent = -1;
    for (GifRecordType type = UNDEFINED_RECORD_TYPE; type != TERMINATE_RECORD_TYPE;) {
        if (DGifGetRecordType(file.get(), &type) != GIF_OK) s.fail("GIF", "a block is broken or cut off");
        if (type == IMAGE_DESC_RECORD_TYPE) {
            read_gif_frame(*file, s, transparent, image);
            return image;
        }
        if (type != EXTENSION_RECORD_TYPE) continue;
        int code = 0;
        GifByteType* block = nullptr;
        int ok = DGifGetExtension(file.get(), &code, &block);
        while (ok == GIF_OK && block != nullptr) {
            GraphicsControlBlock control;
            if (code == GRAPHICS_EXT_FUNC_CODE && DGifExtensionToGCB(block[0], block + 1, &control) == GIF_OK)
                transparent = control.TransparentColor;
            ok = DGifGetExtensionNext(file.get(), &block);
        }
        if (ok != GIF_OK) s.fail("GIF", "a block is broken or cut off");
    }
    s.fail("GIF", "expected a frame, found none");
}

}  // namespace

Image decode_image(std::span<const std::byte> bytes, std::string_view name, const ImageLimits& limits) {
    const Source s{bytes, name, limits};
    const std::string_view text = s.text();
    if (text.starts_with("P6")) return decode_ppm(s);
    if (text.starts_with("\x89PNG\r\n\x1a\n")) return decode_png(s);
    if (text.starts_with("\xff\xd8\xff")) return decode_jpeg(s);
    if (text.starts_with("RIFF") && text.substr(0, 12).ends_with("WEBP")) return decode_webp(s);
    if (text.starts_with("GIF87a") || text.starts_with("GIF89a")) return decode_gif(s);
    throw Error("{}: expected a picture as PNG, JPEG, WebP, GIF or PPM, found another kind of file", name);
}

}  // namespace smelt
