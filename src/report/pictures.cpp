// Opened at run time: a command that draws once in a while should not load 20 libraries each time it starts.
// The functions are of librsvg 2.46 or newer and cairo 1.2 or newer, whose interfaces are stable.
#include "report/pictures.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/shared_library.h"

namespace smelt {

namespace {

using Surface = struct SurfaceTag*;
using Context = struct ContextTag*;
using Handle = struct HandleTag*;
struct Rectangle {
    double x, y, width, height;
};
struct GlibError {
    unsigned domain;
    int code;
    char* message;
};
using Write = int (*)(void* out, const unsigned char* data, unsigned n);
constexpr int argb32 = 0;  // CAIRO_FORMAT_ARGB32

#define CAIRO_FUNCTIONS(X)                                                                        \
    X(Surface, cairo_image_surface_create, (int format, int width, int height))                   \
    X(Surface, cairo_pdf_surface_create_for_stream, (Write write, void* out, double w, double h)) \
    X(void, cairo_pdf_surface_set_size, (Surface surface, double width, double height))           \
    X(Context, cairo_create, (Surface surface))                                                   \
    X(void, cairo_scale, (Context context, double x, double y))                                   \
    X(void, cairo_show_page, (Context context))                                                   \
    X(void, cairo_destroy, (Context context))                                                     \
    X(void, cairo_surface_finish, (Surface surface))                                              \
    X(void, cairo_surface_destroy, (Surface surface))                                             \
    X(int, cairo_surface_status, (Surface surface))                                               \
    X(const char*, cairo_status_to_string, (int status))                                          \
    X(int, cairo_surface_write_to_png_stream, (Surface surface, Write write, void* out))
#define RSVG_FUNCTIONS(X)                                                                          \
    X(Handle, rsvg_handle_new_from_data, (const unsigned char* data, size_t n, GlibError** error)) \
    X(int, rsvg_handle_render_document,                                                            \
      (Handle handle, Context context, const Rectangle* viewport, GlibError** error))
#define GOBJECT_FUNCTIONS(X) X(void, g_object_unref, (void* object))

int append(void* out, const unsigned char* data, unsigned n) {
    static_cast<std::string*>(out)->append(reinterpret_cast<const char*>(data), n);
    return 0;  // CAIRO_STATUS_SUCCESS
}

class Rsvg : public PictureMaker {
 public:
#define X(result, name, parameters) result(*name) parameters = nullptr;
    CAIRO_FUNCTIONS(X)
    RSVG_FUNCTIONS(X)
    GOBJECT_FUNCTIONS(X)
#undef X

    std::string png(const std::string& svg, double width, double height, double scale) const override {
        std::string out;
        const Owned surface(*this, cairo_image_surface_create(argb32, static_cast<int>(width * scale + 0.5),
                                                              static_cast<int>(height * scale + 0.5)));
        {
            const Drawing drawing(*this, surface.get());
            cairo_scale(drawing.get(), scale, scale);
            render(svg, drawing.get(), width, height);
        }
        check(cairo_surface_write_to_png_stream(surface.get(), append, &out));
        return out;
    }

    std::string pdf(std::span<const Svg> pages) const override {
        std::string out;
        const Owned surface(*this, cairo_pdf_surface_create_for_stream(append, &out, 1, 1));
        {
            const Drawing drawing(*this, surface.get());
            for (const Svg& page : pages) {
                cairo_pdf_surface_set_size(surface.get(), page.width, page.height);
                render(page.text, drawing.get(), page.width, page.height);
                cairo_show_page(drawing.get());
            }
        }
        cairo_surface_finish(surface.get());
        check(cairo_surface_status(surface.get()));
        return out;
    }

 private:
    class Owned {
     public:
        Owned(const Rsvg& library, Surface surface) : library_(library), surface_(surface) {}
        ~Owned() { library_.cairo_surface_destroy(surface_); }
        Owned(const Owned&) = delete;
        Owned& operator=(const Owned&) = delete;
        Surface get() const { return surface_; }

     private:
        const Rsvg& library_;
        Surface surface_;
    };
    class Drawing {
     public:
        Drawing(const Rsvg& library, Surface surface)
            : library_(library), context_(library.cairo_create(surface)) {}
        ~Drawing() { library_.cairo_destroy(context_); }
        Drawing(const Drawing&) = delete;
        Drawing& operator=(const Drawing&) = delete;
        Context get() const { return context_; }

     private:
        const Rsvg& library_;
        Context context_;
    };

    void check(int status) const {
        if (status != 0) throw Error("cairo: {}", cairo_status_to_string(status));
    }

    void render(const std::string& svg, Context context, double width, double height) const {
        GlibError* error = nullptr;
        const Handle handle =
            rsvg_handle_new_from_data(reinterpret_cast<const unsigned char*>(svg.data()), svg.size(), &error);
        const Rectangle viewport{0, 0, width, height};
        const bool done =
            handle != nullptr && rsvg_handle_render_document(handle, context, &viewport, &error) != 0;
        if (handle != nullptr) g_object_unref(handle);
        if (!done) throw Error("librsvg: {}", error != nullptr ? error->message : "does not draw a picture");
    }
};

}  // namespace

std::unique_ptr<PictureMaker> open_picture_maker(std::string& missing) {
    const SharedLibrary rsvg{"librsvg-2.so.2", "librsvg-2.2.dylib", "/opt/homebrew/lib/librsvg-2.2.dylib"};
    const SharedLibrary cairo{"libcairo.so.2", "libcairo.2.dylib", "/opt/homebrew/lib/libcairo.2.dylib"};
    const SharedLibrary gobject{"libgobject-2.0.so.0", "libgobject-2.0.0.dylib",
                                "/opt/homebrew/lib/libgobject-2.0.0.dylib"};
    for (const SharedLibrary* library : {&rsvg, &cairo, &gobject}) {
        if (*library) continue;
        missing = fmt::format(
            "no librsvg here (Debian: apt-get install librsvg2-2; macOS: brew install "
            "librsvg): {}",
            library->reason());
        return nullptr;
    }
    auto maker = std::make_unique<Rsvg>();
    std::string symbol;
#define X(result, name, parameters) cairo.find(maker->name, #name, symbol);
    CAIRO_FUNCTIONS(X)
#undef X
#define X(result, name, parameters) rsvg.find(maker->name, #name, symbol);
    RSVG_FUNCTIONS(X)
#undef X
#define X(result, name, parameters) gobject.find(maker->name, #name, symbol);
    GOBJECT_FUNCTIONS(X)
#undef X
    if (symbol.empty()) return maker;
    missing = fmt::format("librsvg or cairo is too old: it has no {}", symbol);
    return nullptr;
}

}  // namespace smelt
