#!/usr/bin/env python3
"""The packages of scripts/setup.sh against this distribution: apt has each of them, and each header outside the source tree that the build read
belongs to one of them or to what they depend on. usage: build_packages.py SOURCE_DIR BUILD_DIR    Exit 77 (skipped) without apt or a build."""
import os
import re
import shutil
import subprocess
import sys


def skip(why):
    print(f"{why}: skipped")
    sys.exit(77)


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout


# Any version of Boost will do, as in setup.sh.
def plain(package):
    return re.sub(r"^(libboost(?:-[a-z]+)?)[0-9.]+-dev$", r"\1-dev", package.split(":")[0])


def needed_by(packages):
    depends, provides = {}, {}
    for line in output("dpkg-query", "-W", "-f=${Package}\t${Depends}, ${Pre-Depends}\t${Provides}\n").splitlines():
        name, wanted, provided = line.split("\t")
        names = [re.split(r"[ (:]", part.strip())[0] for part in re.split(r"[,|]", wanted)]
        depends.setdefault(plain(name), set()).update(plain(n) for n in names if n)
        for part in provided.split(","):
            provides.setdefault(plain(re.split(r"[ (:]", part.strip())[0]), set()).add(plain(name))
    done, todo = set(), list(packages)
    while todo:
        name = todo.pop()
        if name in done:
            continue
        done.add(name)
        todo += depends.get(name, set()) | provides.get(name, set())
    return done


# But those of the compiler, which may be another than the packages', and of the library for gRPC, which is built where
# gRPC is.
def headers_read(build):
    read = set()
    wanted = False
    for line in output("ninja", "-C", build, "-t", "deps").splitlines():
        if not line.startswith(" "):
            wanted = line.startswith(("src/", "tests/")) and "/smelt_grpc.dir/" not in line
        elif wanted and line.strip().startswith("/usr/include/") and "/c++/" not in line:
            read.add(os.path.normpath(line.strip()))
    return sorted(read)


def files_of(packages):
    installed = output("dpkg-query", "-W", "-f=${binary:Package}\n").split()
    return set(output("dpkg-query", "-L", *(name for name in installed if plain(name) in packages)).splitlines())


def main(source, build):
    if not all(shutil.which(tool) for tool in ("apt-cache", "dpkg-query", "ninja")):
        skip("apt or ninja is missing")
    packages = output(os.path.join(source, "scripts/setup.sh"), "--print").split("--no-install-recommends", 1)[1].split()
    known = set(re.findall(r"^(\S+):\n  Installed: .*\n  Candidate: (?!\(none\))", output("apt-cache", "policy", "bash", *packages), re.M))
    if "bash" not in known:
        skip("apt has no lists (apt-get update)")
    faults = [f"setup.sh installs {name}, which apt does not know" for name in packages if name not in known]
    read = headers_read(build)
    if not read:
        skip("nothing was built")
    installed = files_of(needed_by(packages))
    for path in [path for path in read if path not in installed]:
        owner = output("dpkg", "-S", path).split(":")[0] or "no package"
        faults.append(f"the build reads {path} of {owner}, which setup.sh does not install")
        if len(faults) == 20:
            break
    print(f"{len(packages)} packages, {len(read)} headers", *faults, sep="\n")
    return 1 if faults else 0


sys.exit(main(*sys.argv[1:]))
