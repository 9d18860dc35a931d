#!/usr/bin/env python3
"""Writes pytorch_model.bin as torch.save does, in both of its layouts. Needs Python alone.

    make_torch_bin.py zip|legacy MODEL.safetensors OUT.bin [PART/OF]   the tensors, or each OF-th of them
    make_torch_bin.py tiny FOLDER                                      FOLDER/zip.bin and FOLDER/legacy.bin

pickle itself writes the opcodes: the classes and functions that torch's files name exist here by name only. With
the tensors come what published files have: a mask of bytes for each attention, an output head that shares the
embedding's storage, parameters among plain tensors, versions of modules as attributes of the dictionary.
"""
import io
import json
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict

TYPES = {"F64": ("DoubleStorage", 8), "F32": ("FloatStorage", 4), "F16": ("HalfStorage", 2),
         "BF16": ("BFloat16Storage", 2), "I64": ("LongStorage", 8), "U8": ("ByteStorage", 1)}


def declare(module, name, thing):
    thing.__module__, thing.__name__, thing.__qualname__ = module, name, name
    setattr(sys.modules.setdefault(module, types.ModuleType(module)), name, thing)
    return thing


STORAGES = {dtype: declare("torch", name, type(name, (), {})) for dtype, (name, _) in TYPES.items()}
REBUILD_TENSOR = declare("torch._utils", "_rebuild_tensor_v2", lambda *args: None)
REBUILD_PARAMETER = declare("torch._utils", "_rebuild_parameter", lambda *args: None)


class Storage:
    def __init__(self, dtype, data):
        self.dtype, self.data, self.key = dtype, data, None

    def n_elements(self):
        return len(self.data) // TYPES[self.dtype][1]


class Tensor:
    def __init__(self, storage, shape):
        self.storage, self.shape = storage, tuple(shape)

    def __reduce__(self):
        strides, n = [], 1
        for d in reversed(self.shape):
            strides.insert(0, n)
            n *= d
        return REBUILD_TENSOR, (self.storage, 0, self.shape, tuple(strides), False, OrderedDict())


class Parameter:
    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        return REBUILD_PARAMETER, (self.tensor, True, OrderedDict())


def pickled(thing, storages, legacy):
    """The object's pickle; storages get their keys in the order in which they are met."""
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj):
            if not isinstance(obj, Storage):
                return None
            if obj.key is None:
                obj.key = str(94000000000000 + 64 * len(storages) if legacy else len(storages))
                storages[obj.key] = obj
            window = (None,) if legacy else ()
            return ("storage", STORAGES[obj.dtype], obj.key, "cpu", obj.n_elements()) + window

    out = io.BytesIO()
    Pickler(out, protocol=2).dump(thing)
    return out.getvalue()


def save_legacy(thing, path):
    storages = {}
    machine = dict(protocol_version=1001, little_endian=True, type_sizes=dict(short=2, int=4, long=4))
    with open(path, "wb") as f:
        for header in (0x1950A86A20F9469CFC6C, 1001, machine):
            f.write(pickle.dumps(header, protocol=2))
        f.write(pickled(thing, storages, legacy=True))
        keys = sorted(storages)
        f.write(pickle.dumps(keys, protocol=2))
        for key in keys:
            f.write(struct.pack("<q", storages[key].n_elements()) + storages[key].data)


def save_zip(thing, path):
    storages = {}
    data = pickled(thing, storages, legacy=False)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        def write(name, content):
            info = zipfile.ZipInfo("archive/" + name)
            padding = -(z.fp.tell() + 30 + len(info.filename) + 4) % 64  # contents start at multiples of 64
            info.extra = b"FB" + struct.pack("<H", padding) + b"Z" * padding
            z.writestr(info, content)

        write("data.pkl", data)
        write("byteorder", b"little")
        for key in sorted(storages):
            write("data/" + key, storages[key].data)
        write("version", b"3\n")


def state_dict(tensors):
    """From {name: (dtype, shape, bytes)}."""
    result = OrderedDict()
    for i, (name, (dtype, shape, data)) in enumerate(tensors.items()):
        tensor = Tensor(Storage(dtype, data), shape)
        result[name] = Parameter(tensor) if i % 2 else tensor
        if name.endswith("attn.c_attn.weight"):
            mask = bytes(column <= row for row in range(8) for column in range(8))
            result[name.replace("c_attn.weight", "bias")] = Tensor(Storage("U8", mask), (1, 1, 8, 8))
        if name == "transformer.wte.weight":
            result["lm_head.weight"] = tensor
    result._metadata = OrderedDict({"": {"version": 1}, "transformer": {"version": 1.5}})
    return result


def read_safetensors(path):
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for name, t in header.items()}


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "tiny":
        floats = {"a": ("F32", (2, 3), struct.pack("<6f", *range(6))), "b": ("F16", (4,), bytes(8)),
                  "transformer.wte.weight": ("BF16", (2, 2), b"\x80\x3f" * 4)}
        for layout, save in (("zip", save_zip), ("legacy", save_legacy)):
            save(state_dict(floats), f"{sys.argv[2]}/{layout}.bin")
        return
    if len(sys.argv) not in (4, 5) or sys.argv[1] not in ("zip", "legacy"):
        sys.exit(__doc__)
    tensors = read_safetensors(sys.argv[2])
    if len(sys.argv) == 5:
        part, of = map(int, sys.argv[4].split("/"))
        tensors = dict(list(tensors.items())[part - 1::of])
    (save_zip if sys.argv[1] == "zip" else save_legacy)(state_dict(tensors), sys.argv[3])


main()
