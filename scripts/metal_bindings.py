#!/usr/bin/env python3
"""Makes C++ of a Metal kernel file, for the software Metal device, CUDA, or clang's check of the language.

usage: metal_bindings.py {soft,cuda,dialect,source} IN.metal -o OUT --cxx COMPILER -I DIR...

The file stays plain MSL. The C++ compiler's preprocessor expands it first (with empty headers of the standard
library, so that only the kernels' own text is left); then pointers with an address space become checked ones,
arrays in threadgroup memory get their storage, and each kernel gets a function that binds its arguments.
`source` writes the expanded MSL itself as a C++ string, for MTLDevice's compiler.
"""
import argparse
import os
import re
import subprocess
import sys

SPACES = {"device": "Device", "constant": "Constant", "threadgroup": "Threadgroup"}
POSITIONS = {
    "thread_position_in_grid", "threadgroup_position_in_grid", "thread_position_in_threadgroup",
    "thread_index_in_threadgroup", "threads_per_threadgroup", "threadgroups_per_grid", "threads_per_grid",
    "simdgroup_index_in_threadgroup", "thread_index_in_simdgroup", "simdgroups_per_threadgroup",
    "threads_per_simdgroup", "dispatch_threads_per_threadgroup",
}
TOKEN = re.compile(
    r'(?P<line>^[ \t]*\#[^\n]*)|(?P<space>\s+)|(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<char>\'(?:[^\'\\\n]|\\.)*\')'
    r"|(?P<name>[A-Za-z_]\w*)|(?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)|(?P<op>::|->|\[\[|\]\]|.)", re.M | re.S)

BUILTIN = r"(float|half|u?char|u?short|u?int|u?long|bool|u?int\d+_t)[234]?|atomic_u?int"


class BadKernel(Exception):
    pass


def preprocess(path, compiler, include_dirs, defines, empty):
    """The kernel text with its own macros and headers expanded; line markers stay. `empty`: a folder to use."""
    os.makedirs(empty, exist_ok=True)
    for header in ("metal_stdlib", "metal_atomic", "metal_simdgroup", "metal_simdgroup_matrix", "metal_math"):
        write(os.path.join(empty, header), "")
    command = [compiler, "-E", "-x", "c++", "-std=c++17", "-nostdinc", "-nostdinc++", "-undef",
               "-D__METAL_VERSION__=310", "-D__METAL__=1", *["-D" + d for d in defines], "-I", empty]
    for directory in include_dirs:
        command += ["-I", directory]
    result = subprocess.run(command + [path], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BadKernel(result.stderr)
    return result.stdout


def tokenize(text):
    """(kind, text) pairs; `]]` that closes two subscripts is split by the reader of attributes."""
    return [[m.lastgroup, m.group()] for m in TOKEN.finditer(text)]


class Rewriter:
    def __init__(self, tokens, name, mode):
        self.tokens, self.name, self.mode = tokens, name, mode
        self.kernels, self.instances, self.constants = {}, [], []
        self.shared_variables = set()

    # --- Reading tokens ---

    def text(self, i):
        return self.tokens[i][1] if 0 <= i < len(self.tokens) else ""

    def skip(self, i, step=1):
        """The next token that is no space and no line marker."""
        while 0 <= i < len(self.tokens) and self.tokens[i][0] in ("space", "line", "mark"):
            i += step
        return i

    def next(self, i):
        return self.skip(i + 1)

    def previous(self, i):
        return self.skip(i - 1, -1)

    def closing(self, i):
        """The token that closes the bracket at i."""
        pairs = {"(": ")", "[": "]", "{": "}", "<": ">", "[[": "]]"}
        if self.text(i) == "[[":
            while i < len(self.tokens) and self.text(i) != "]]":
                i += 1
            return i
        opening, closing, depth = self.text(i), pairs[self.text(i)], 0
        while i < len(self.tokens):
            t = self.text(i)
            if opening == "[" and t in ("[[", "]]"):  # two subscripts, no attribute
                self.tokens[i:i + 1] = [["op", t[0]], ["op", t[0]]]
                t = self.text(i)
            depth += (t == opening) - (t == closing)
            if depth == 0:
                return i
            i += 1
        raise BadKernel(f"{self.where(i)}: {opening} is not closed")

    def where(self, i):
        line, name = 1, self.name
        for kind, text in self.tokens[:i]:
            marker = re.match(r'#\s*(?:line\s+)?(\d+)\s+"([^"]*)"', text.strip()) if kind == "line" else None
            if marker:
                line, name = int(marker.group(1)) - 1, marker.group(2)
            line += text.count("\n")
        return f"{name}:{line}"

    def joined(self, first, end):
        return "".join(t for k, t in self.tokens[first:end] if k != "line").strip()

    def type_end(self, i):
        """The token behind the type name at i: `metal::vec<float, 4>`, `unsigned int`."""
        words = {"unsigned", "signed", "long", "short", "int", "char"}
        if self.text(i) in ("struct", "typename"):
            i = self.next(i)
        if self.tokens[i][0] != "name":
            raise BadKernel(f"{self.where(i)}: expected a type, found '{self.text(i)}'")
        while True:
            first = self.text(i)
            i = self.next(i)
            if first in words and self.text(i) in words:
                continue
            if self.text(i) == "<":
                i = self.next(self.closing(i))
            if self.text(i) != "::":
                return i
            i = self.next(i)
            if self.text(i) == "template":
                i = self.next(i)

    def replace(self, first, end, text):
        lines = "".join(t for _, t in self.tokens[first:end]).count("\n")
        self.tokens[first:end] = [["done", text]] + ([["space", "\n" * lines]] if lines else [])

    # --- The language ---

    def attributes(self, i):
        """Names and arguments of the attributes that begin at i, and the token behind them."""
        found = {}
        while self.text(i) == "[[":
            end = self.closing(i)
            for name, argument in re.findall(r"(\w+)\s*(?:\(((?:[^()]|\([^()]*\))*)\))?", self.joined(i + 1, end)):
                found[name] = argument
            i = self.next(end)
        return found, i

    def run(self):
        if self.mode == "cuda":
            self.mark_functions()
        self.read_kernels()
        i = 0
        while i < len(self.tokens):
            kind, text = self.tokens[i]
            if kind == "name" and text in SPACES and self.text(self.previous(i)) not in ("::", ".", "->"):
                i = self.address_space(i)
            elif text == "[[":
                self.replace(i, self.closing(i) + 1, "")
            elif kind == "number" and re.fullmatch(r"(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][+-]?\d+)?", text):
                self.tokens[i][1] += "f"  # MSL has no double
            elif self.mode == "dialect" and re.fullmatch(r"(float|half|u?(char|short|int|long))[234]", text) and self.text(i + 1) == "(":
                self.replace(i, i + 1, f"metal::construct<{text}>")
            elif kind == "name" and text in ("thread", "kernel"):
                self.replace(i, i + 1, "")
            elif text == "&" and self.text(self.next(i)) in self.shared_variables and self.text(self.previous(i)) in "(,=":
                self.replace(i, self.next(i) + 1, self.text(self.next(i)) + "_pointer")
            elif text == "is_function_constant_defined":
                name = self.next(self.next(i))
                known = f"({self.text(name)}_is_defined)" if self.mode == "soft" else "true"
                self.replace(i, self.next(name) + 1, known)
            elif text == "reinterpret_cast" and self.text(self.next(self.next(i))) in (*SPACES, "const"):
                self.replace(i, i + 1, "softmetal::cast" if self.mode == "soft" else "reinterpret_cast")
            i += 1
        return "".join(t for _, t in self.tokens)

    def mark_functions(self):
        """CUDA wants __device__ before every function of a namespace or class."""
        i = 0
        while i < len(self.tokens):
            i = self.skip(i)
            if i >= len(self.tokens):
                return
            if self.text(i) in ("}", ";", ":") or self.text(i) in ("public", "private"):
                i += 1
                continue
            start = i
            while self.text(start) == "template" and self.text(self.next(start)) == "<":
                start = self.next(self.closing(self.next(start)))
            words, end, value = [], start, False
            while end < len(self.tokens) and self.text(end) not in ("{", ";"):
                if self.text(end) in ("(", "[["):
                    words.append(self.text(end))
                    end = self.closing(end)
                elif self.tokens[end][0] not in ("space", "line"):
                    words.append(self.text(end))
                    value = value or self.text(end) == "="
                end += 1
            scope = words and words[0] in ("namespace", "struct", "class", "union", "extern")
            function = "(" in words and not (value and "operator" not in words) and words[0] not in (
                "static_assert", "using", "typedef", "template")
            if self.text(end) == "{" and scope and "(" not in words:
                i = end + 1  # its declarations follow
                continue
            if self.text(end) == "{":
                end = self.closing(end)
            if function:
                self.tokens.insert(start, ["mark", "__device__ "])
                end += 1
            i = end + 1

    def namespaces(self):
        """Named ones that the file opens, for the bindings behind it."""
        names = []
        for i, token in enumerate(self.tokens):
            name = self.next(i)
            if token == ["name", "namespace"] and self.text(self.next(name)) == "{" and self.text(name) not in names:
                names.append(self.text(name))
        return names

    def read_kernels(self):
        i = 0
        while i < len(self.tokens):
            if self.tokens[i] == ["name", "kernel"]:
                if self.text(self.previous(i)) == "[[":
                    start = self.previous(i)
                    i = self.replace_attribute_kernel(start)
                i = self.read_kernel(i)
            i += 1

    def replace_attribute_kernel(self, start):
        """`[[kernel]] void f` as `kernel void f`."""
        self.tokens[start:self.closing(start) + 1] = [["name", "kernel"]]
        return start

    def read_kernel(self, i):
        before = self.previous(i)
        host_name = None
        if self.text(before) == "]]":  # template [[host_name("x")]] kernel decltype(f<A>) f<A>;
            start = before
            while self.text(start) != "[[":
                start -= 1
            host_name = self.attributes(start)[0].get("host_name")
            before = self.previous(start)
        after = self.next(i)
        if self.text(before) == "template":
            if host_name is None:
                raise BadKernel(f"{self.where(i)}: an instance of a kernel needs [[host_name(\"...\")]]")
            end = i
            while self.text(end) != ";":
                end += 1
            name = self.next(self.closing(self.next(after))) if self.text(after) == "decltype" else self.type_end(after)
            if self.text(name) == "(":
                raise BadKernel(f"{self.where(i)}: write the instance as kernel decltype(f<A>) f<A>;")
            match = re.match(r"(\w+)\s*<(.*?)>\s*(\(.*)?$", self.joined(name, end), re.S)
            if not match:
                raise BadKernel(f"{self.where(i)}: expected f<A> in an instance of a kernel")
            self.instances.append((self.unquote(host_name), match.group(1), match.group(2)))
            self.replace(before, end + 1, "")
            return before
        if self.text(after) != "void":
            raise BadKernel(f"{self.where(i)}: a kernel returns void")
        name = self.next(after)
        open_paren = self.next(name)
        close = self.closing(open_paren)
        templated = self.text(before) == ">"
        self.kernels[self.text(name)] = self.parameters(open_paren + 1, close)
        if not templated:
            self.instances.append((self.text(name), self.text(name), None))
        return close

    @staticmethod
    def unquote(literals):
        return "".join(re.findall(r'"([^"]*)"', literals))

    def parameters(self, first, end):
        """[(kind, type, name, index, condition)] of a kernel."""
        found, i = [], self.skip(first)
        while i < end:
            start, depth = i, 0
            while i < end and not (self.text(i) == "," and depth == 0):
                if self.text(i) == "[[":
                    i = self.closing(i)
                elif self.text(i) in "<(":
                    depth += 1
                elif self.text(i) in ">)":
                    depth -= 1
                i += 1
            found.append(self.parameter(start, i))
            i = self.next(i)
        return found

    def parameter(self, start, end):
        attribute = start
        while attribute < end and self.text(attribute) != "[[":
            attribute += 1
        attributes, _ = self.attributes(attribute)
        words = self.joined(start, attribute)
        name = re.search(r"(\w+)\s*$", words).group(1)
        of = words[:-len(name)].strip()
        condition = attributes.get("function_constant")
        if "buffer" in attributes:
            kind = "pointer" if of.endswith("*") else "reference"
            return kind, of, name, int(attributes["buffer"]), condition
        if "threadgroup" in attributes:
            return "threadgroup", of, name, int(attributes["threadgroup"]), condition
        for position in attributes:
            if position in POSITIONS:
                return "position", of.replace("const ", ""), name, position, None
        raise BadKernel(f"{self.where(start)}: parameter {name} has no attribute that says what it is bound to")

    def address_space(self, i):
        """Rewrites the declaration or cast around the address space at i; returns where to read on."""
        first, space = i, SPACES[self.text(i)]
        const = self.text(i) == "constant"
        before = self.previous(i)
        while self.text(before) in ("const", "static", "constexpr"):
            const = const or self.text(before) != "static"
            first, before = before, self.previous(before)
        t = self.next(i)
        while self.text(t) in ("const", "volatile", "static", "constexpr"):
            const = const or self.text(t) != "volatile"
            t = self.next(t)
        end = self.type_end(t)
        of = self.rewritten(self.joined(t, end))
        while self.text(end) == "const":
            const, end = True, self.next(end)
        element = ("const " if const else "") + of
        if self.text(end) == "*":
            if self.text(self.next(end)) == "*":
                raise BadKernel(f"{self.where(i)}: pointers to pointers are not supported")
            self.replace(first, end + 1, self.pointer(space, element) + " ")
        elif self.text(end) == "&":
            self.replace(first, end + 1, self.reference(space, element))
        elif self.text(end) == "(":
            raise BadKernel(f"{self.where(i)}: pointers to arrays are not supported")
        elif space == "Constant":
            return self.program_constant(first, t, end, of)
        elif space == "Threadgroup":
            return self.threadgroup_variables(first, end, of)
        else:
            raise BadKernel(f"{self.where(i)}: {self.text(i)} {of} is neither pointer nor reference")
        return first

    def rewritten(self, of):
        return of

    def pointer(self, space, element):
        if self.mode == "soft":
            return f"softmetal::ptr<softmetal::{space}, {element}>"
        return f"{self.qualifier(space, element)}{element}*"

    def reference(self, space, element):
        return f"{self.qualifier(space, element)}{element}&"

    def qualifier(self, space, element):
        """For clang. Its classes can only be copied within one space, Metal's from any: they go without."""
        of = element.replace("const ", "")
        return f"SPACE_{space} " if self.mode == "dialect" and re.fullmatch(BUILTIN, of) else ""

    def program_constant(self, first, t, end, of):
        """`constant bool x [[function_constant(0)]];` or `constant float table[4] = {...};`"""
        name = self.text(end)
        after = self.next(end)
        if self.text(after) == "[[":
            attributes, semicolon = self.attributes(after)
            if self.text(semicolon) != ";":
                raise BadKernel(f"{self.where(first)}: a function constant has no value")
            self.constants.append((name, of, int(attributes["function_constant"])))
            declaration = {"soft": "static {0} {1}; static bool {1}_is_defined;",
                           "cuda": "__constant__ {0} {1};", "dialect": "extern const {0} {1};"}[self.mode]
            self.replace(first, semicolon + 1, declaration.format(of, name))
            return first
        if self.text(after) == "[" and self.mode == "soft":
            closing = self.closing(after)
            if self.text(self.next(closing)) != "[":
                size = self.joined(after + 1, closing)
                self.replace(first, closing + 1, f"static constexpr softmetal::table<{of}, ({size})> {name}")
                return first
        array = self.text(after) == "["
        self.replace(first, t, {"soft": "static constexpr ", "cuda": "static constexpr " + array * "__device__ ",
                                "dialect": "static SPACE_Constant const "}[self.mode])
        return first

    def threadgroup_variables(self, first, i, of):
        out = ""
        while True:
            name = self.text(i)
            i = self.next(i)
            sizes = []
            while self.text(i) in ("[", "[["):
                closing = self.closing(i)
                sizes.append(self.joined(i + 1, closing))
                i = self.next(closing)
            subscript = "".join(f"[{s}]" for s in sizes)
            if self.mode == "cuda":
                out += f"__shared__ {of} {name}{subscript};"
            elif self.mode == "dialect":
                out += f"static SPACE_Threadgroup {of} {name}{subscript};"
            else:
                row = of + "".join(f"[{s}]" for s in sizes[1:])
                count = sizes[0] if sizes else "1"
                out += (f"static const char {name}_site = 0; const auto {name + ('' if sizes else '_pointer')} = "
                        f"softmetal::shared<{row}>(&{name}_site, \"{name}\", {count});")
                if not sizes:
                    self.shared_variables.add(name)
                    out += f" auto&& {name} = *{name}_pointer;"
            if self.text(i) == ";":
                break
            if self.text(i) != ",":
                raise BadKernel(f"{self.where(first)}: threadgroup variables have no initial value")
            i = self.next(i)
        self.replace(first, i + 1, out)
        return first


DATA_TYPES = {"bool": "Bool", "int": "Int", "uint": "UInt", "short": "Short", "ushort": "UShort", "float": "Float",
              "half": "Half", "uchar": "UChar", "char": "Char"}


def soft_bindings(rewriter, file_name):
    """Functions that call the kernels for one thread, and their registration."""
    out, entries = [], []
    for n, (host_name, kernel, template_args) in enumerate(rewriter.instances):
        if kernel not in rewriter.kernels:
            raise BadKernel(f"{file_name}: {host_name} is an instance of {kernel}, which is no kernel here")
        arguments, slots = [], []
        for kind, of, name, index, condition in rewriter.kernels[kernel]:
            if kind == "position":
                arguments.append(f"softmetal::position<{of}>(t.{index})")
                continue
            arguments.append(f"softmetal::{kind}_argument(l, {index})")
            needed = f"&{condition}" if condition else "nullptr"
            slots.append(f'{{softmetal::Slot::{kind}, {index}, "{name}", {needed}}}')
        call = f"{kernel}<{template_args}>" if template_args else kernel
        out.append(f"static void run_{n}(const softmetal::Launch& l, const softmetal::ThreadId& t) {{\n"
                   f"    static_cast<void>(l), static_cast<void>(t);\n"
                   f"    {call}({', '.join(arguments)});\n}}\n")
        entries.append(f'    {{"{host_name}", run_{n}, {{{", ".join(slots)}}}}},\n')
    constants = "".join(
        f'    {{"{name}", {index}, softmetal::DataType::{DATA_TYPES[of]}, &{name}, '
        f"&{name}_is_defined}},\n" for name, of, index in rewriter.constants)
    return ("".join(out) + f'static const softmetal::Registration registration("{file_name}",\n{{\n'
            + "".join(entries) + "},\n{\n" + constants + "});\n")


def cuda_bindings(rewriter, file_name):
    """A __global__ function for each kernel, and their registration."""
    out, entries = [], []
    for n, (host_name, kernel, template_args) in enumerate(rewriter.instances):
        passed, slots, references = [], [], 0
        for kind, of, name, index, _ in rewriter.kernels[kernel]:
            if kind == "position":
                passed.append(f"softmetal::position<{of}>(softmetal::{index}(l))")
                continue
            passed.append(f"softmetal::{kind}_argument(l, {references if kind == 'reference' else index})")
            references += kind == "reference"
            slots.append(f'{{softmetal::Slot::{kind}, {index}, "{name}", nullptr}}')
        call = f"{kernel}<{template_args}>" if template_args else kernel
        out.append(f"__global__ void cuda_{n}(const __grid_constant__ softmetal::CudaLaunch l) {{\n"
                   f"    {call}({', '.join(passed)});\n}}\n")
        entries.append(f'    {{"{host_name}", nullptr, {{{", ".join(slots)}}}, reinterpret_cast<const void*>(cuda_{n})}},\n')
    constants = "".join(
        f'    {{"{name}", {index}, softmetal::DataType::{DATA_TYPES[of]}, softmetal::symbol_address({name}), nullptr}},\n'
        for name, of, index in rewriter.constants)
    return ("".join(out) + f'static const softmetal::Registration registration("{file_name}",\n{{\n'
            + "".join(entries) + "},\n{\n" + constants + "});\n")


def write(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("soft", "cuda", "dialect", "source"))
    parser.add_argument("input")
    parser.add_argument("-o", dest="output", required=True)
    parser.add_argument("--cxx", default="c++")
    parser.add_argument("-I", dest="include", action="append", default=[])
    parser.add_argument("-D", dest="define", action="append", default=[])
    args = parser.parse_args()
    file_name = os.path.basename(args.input)
    stem = re.sub(r"\W", "_", os.path.splitext(file_name)[0])
    try:
        empty = os.path.join(os.path.dirname(os.path.abspath(args.output)), "empty_headers")
        if args.mode == "cuda":
            args.define.append("__CUDACC__=1")
        if args.mode == "source":  # for Apple's compiler alone
            args.define.append("__METAL_MACOS__=1")
        text = preprocess(args.input, args.cxx, args.include, args.define, empty)
        if args.mode == "source":
            plain = re.sub(r'^# \d+ "[^\n]*\n', "", text, flags=re.M)  # line markers; pragmas stay
            plain = re.sub(r"\n{3,}", "\n\n", plain)
            literal = f"// {file_name}\n#include <metal_stdlib>\n#include <metal_simdgroup_matrix>\nusing namespace metal;\n" + plain
            chunks = [literal[i:i + 8000] for i in range(0, len(literal), 8000)]
            write(args.output, f"extern const char* const metal_source_{stem};\n"
                  f"const char* const metal_source_{stem} =\n"
                  + "\n".join(f'    R"msl({c})msl"' for c in chunks) + ";\n")
            return
        rewriter = Rewriter(tokenize(text), file_name, args.mode)
        body = rewriter.run()
        namespace = f"metal::kernels_{stem}"
        bind = {"soft": soft_bindings, "cuda": cuda_bindings, "dialect": None}[args.mode]
        if args.mode == "dialect":
            write(args.output, f"#include <metal_dialect>\n{body}\n")
        else:
            write(args.output, f"#include <metal_stdlib>\nnamespace {namespace} {{\n{body}\n}}\n"
                  f'#line 1 "bindings of {file_name}"\nnamespace {namespace} {{\n'
                  + "".join(f"using namespace {n};\n" for n in rewriter.namespaces()) + bind(rewriter, file_name) + "}\n")
    except BadKernel as error:
        sys.exit(f"{args.input}: {error}")


if __name__ == "__main__":
    main()
