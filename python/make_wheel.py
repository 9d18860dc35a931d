#!/usr/bin/env python3
"""Makes a wheel of the package and the library, for any Python 3.9 or later on this kind of machine.

usage: make_wheel.py LIBRARY VERSION OUT_FOLDER

The library needs the system packages that smelt was built with. Same input, same bytes.
"""
import base64
import hashlib
import pathlib
import sys
import sysconfig
import zipfile


def main(library, version, out):
    package = pathlib.Path(__file__).with_name("smelt")
    suffix = ".dylib" if sys.platform == "darwin" else ".so"
    files = {f"smelt/{f.name}": f.read_bytes() for f in sorted(package.iterdir()) if f.suffix in (".py", ".typed")}
    files[f"smelt/libsmelt{suffix}"] = pathlib.Path(library).read_bytes()
    tag = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")
    info = f"smelt-{version}.dist-info"
    files[f"{info}/METADATA"] = (
        f"Metadata-Version: 2.1\nName: smelt\nVersion: {version}\nRequires-Python: >=3.9\nLicense: Apache-2.0\n"
        "Summary: runs large language models on the machine in front of you\n"
    ).encode()
    files[f"{info}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: smelt\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    wheel = pathlib.Path(out) / f"smelt-{version}-{tag}.whl"
    partial = wheel.with_suffix(".partial")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    partial.replace(wheel)
    print(wheel)


main(*sys.argv[1:])
