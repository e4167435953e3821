#!/usr/bin/env bash
# Finds ONNX Runtime's C library, or fetches it into the cache.
#
#   scripts/setup-onnxruntime.sh [--required] [--print]
#
# The user's choice comes first: the library that ORT_DYLIB_PATH names, then one that the system's loader
# knows, then our own copy in the cache, fetched by pinned version and hash. Without any of them the gateway
# uses its embedded engine, so that is only a warning; with --required it is an error.
# --print writes the library's path (or nothing) to standard output. Messages go to standard error.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
lock="$scripts/onnxruntime.lock"
version=$(sed -n 's/^onnxruntime==\([0-9.]*\).*/\1/p' "$lock")
# The oldest version that the gateway can use.
version_min="1.25"
python=${PYTHON:-python3}
required=no
print=no
for option in "$@"; do
    case $option in
        --required) required=yes ;;
        --print) print=yes ;;
        *) echo "unknown option $option; usage: $0 [--required] [--print]" >&2; exit 2 ;;
    esac
done

say() { echo "onnxruntime: $*" >&2; }

found() {
    [ "$print" = no ] || echo "$1"
    exit 0
}

give_up() {
    if [ "$required" = yes ]; then
        say "error: $*"
        exit 1
    fi
    say "warning: $*; the embedded engine will be used"
    exit 0
}

# Prints the version of the library at a path; fails when it does not load or is too old.
probe() {
    "$python" - "$1" "$version_min" 2>/dev/null <<'PY'
import ctypes, sys
class Base(ctypes.Structure):
    _fields_ = [("api", ctypes.c_void_p), ("version", ctypes.CFUNCTYPE(ctypes.c_char_p))]
library = ctypes.CDLL(sys.argv[1])
library.OrtGetApiBase.restype = ctypes.POINTER(Base)
version = library.OrtGetApiBase().contents.version().decode()
print(version)
major_minor = lambda text: tuple(int(part) for part in text.split(".")[:2])
sys.exit(major_minor(version) < major_minor(sys.argv[2]))
PY
}

command -v "$python" >/dev/null || give_up "$python is not installed, so no library can be looked for or fetched"

if [ -n "${ORT_DYLIB_PATH:-}" ]; then
    if seen=$(probe "$ORT_DYLIB_PATH"); then
        say "using $seen at $ORT_DYLIB_PATH (ORT_DYLIB_PATH)"
        found "$ORT_DYLIB_PATH"
    fi
    reason="does not load"
    [ -z "$seen" ] || reason="is version $seen, older than $version_min"
    say "warning: ORT_DYLIB_PATH=$ORT_DYLIB_PATH $reason; looking further"
fi

while read -r system; do
    if seen=$(probe "$system"); then
        say "using $seen at $system (system)"
        found "$system"
    fi
done < <({ ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null || true; } | sed -n 's/^[[:space:]]*libonnxruntime\.so.* => //p')

case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) platform=manylinux_2_28_x86_64 suffix=so ;;
    Linux-aarch64) platform=manylinux_2_28_aarch64 suffix=so ;;
    Darwin-arm64) platform=macosx_14_0_arm64 suffix=dylib ;;
    *) give_up "no pinned library for $(uname -s) on $(uname -m)" ;;
esac
home="${XDG_CACHE_HOME:-$HOME/.cache}/sluice/onnxruntime/$version"
library="$home/lib/libonnxruntime.$suffix"
if [ -f "$library" ]; then
    found "$library"
fi

mkdir -p "$home"
unpacked=$(mktemp -d "$home/fetch.XXXXXX")
trap 'rm -rf "$unpacked"' EXIT
say "fetching $version into $home"
if ! "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --implementation cp \
    --python-version 3.11 --platform "$platform" --require-hashes -r "$lock" -d "$unpacked" >"$unpacked/log" 2>&1; then
    say "$(grep -m1 -i error "$unpacked/log" || tail -n1 "$unpacked/log")"
    give_up "could not fetch version $version"
fi
"$python" - "$unpacked" "$suffix" <<'PY'
import glob, os, sys, zipfile
directory, suffix = sys.argv[1:]
os.mkdir(os.path.join(directory, "lib"))
with zipfile.ZipFile(glob.glob(os.path.join(directory, "*.whl"))[0]) as wheel:
    for member in wheel.namelist():
        name = os.path.basename(member)
        if not name.startswith("libonnxruntime"):
            continue
        # The library itself loses its version; the ones beside it keep their names, by which it loads them.
        target = name if "providers" in name else f"libonnxruntime.{suffix}"
        with open(os.path.join(directory, "lib", target), "wb") as file:
            file.write(wheel.read(member))
PY
if ! probe "$unpacked/lib/libonnxruntime.$suffix" >/dev/null; then
    give_up "version $version does not load on this machine"
fi
# Renames, the library last: whoever sees it sees it whole. Another process doing the same does no harm.
mkdir -p "$home/lib"
mv -f "$unpacked"/lib/*providers* "$home/lib/" 2>/dev/null || true
mv -f "$unpacked/lib/libonnxruntime.$suffix" "$library"
found "$library"
