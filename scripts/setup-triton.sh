#!/usr/bin/env bash
# Finds the programs of Triton that tests run (tritonserver, perf_analyzer), or fetches them into the cache.
#
#   scripts/setup-triton.sh PROGRAM
#
# Prints the path of PROGRAM. One on the PATH comes first, then our own copy in the cache: NVIDIA's wheels,
# fetched by pinned version and hash. Nothing is installed on the system. Fails, with the reason on standard
# error, where the program does not run: those wheels are for Linux on x86-64 with a glibc of 2.35 or later.
set -euo pipefail

scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
program=${1:-}
case $program in
    tritonserver | perf_analyzer) ;;
    *) echo "usage: $0 tritonserver|perf_analyzer" >&2; exit 2 ;;
esac
python=${PYTHON:-python3}

say() { echo "triton: $*" >&2; }

if found=$(command -v "$program"); then
    say "using $found"
    echo "$found"
    exit 0
fi

digest=$(sha256sum "$scripts/triton.lock" "$0" | sha256sum | cut -c1-16)
# A model in Python runs in a program of Triton's for exactly this version.
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
home="${XDG_CACHE_HOME:-$HOME/.cache}/sluice/triton/$digest-$version"
if [ -f "$home/ready" ]; then
    echo "$home/bin/$program"
    exit 0
fi

case "$(uname -s)-$(uname -m)" in
    Linux-x86_64) ;;
    *) say "there is no $program for $(uname -s) on $(uname -m)"; exit 1 ;;
esac
mkdir -p "$(dirname "$home")"
fetched=$(mktemp -d "$(dirname "$home")/fetch.XXXXXX")
trap 'rm -rf "$fetched"' EXIT
say "fetching NVIDIA's wheels into $home"
if ! "$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --platform manylinux_2_35_x86_64 --platform manylinux1_x86_64 \
    --require-hashes -r "$scripts/triton.lock" -d "$fetched/wheels" >"$fetched/log" 2>&1; then
    say "could not fetch: $(tail -n1 "$fetched/log")"
    exit 1
fi
for wheel in "$fetched"/wheels/*.whl; do
    "$python" -m zipfile -e "$wheel" "$fetched/root"
done
rm -r "$fetched/wheels"

root="$fetched/root"
mkdir "$fetched/bin" "$fetched/libraries"
# What perf_analyzer looks for under the names that a distribution gives: the server's wheel has both.
for library in libb64.so.0d libcudart.so.12; do
    stem=${library%%.so*}
    same=$(cd "$root/nvidia_pytriton.libs" && ls "$stem"-*)
    ln -s "../root/nvidia_pytriton.libs/$same" "$fetched/libraries/$library"
done
mv "$root"/tritonclient-*.data/data/bin/perf_analyzer "$fetched/libraries/perf_analyzer"
mv "$root/pytriton/tritonserver" "$root/triton"
rm -rf "$root/pytriton" "$root"/tritonclient* "$root"/triton*client "$root"/tritonshmutils "$root"/*.dist-info
# The same depth as before: the programs find their libraries by a relative path.
mkdir "$root/pytriton" && mv "$root/triton" "$root/pytriton/tritonserver"
server="$root/pytriton/tritonserver"
if [ -f "$server/python_backend_stubs/$version/triton_python_backend_stub" ]; then
    mv "$server/python_backend_stubs/$version/triton_python_backend_stub" "$server/backends/python/"
fi
rm -rf "$server/python_backend_stubs"
chmod +x "$server/bin/tritonserver" "$server"/backends/python/* "$fetched/libraries/perf_analyzer"

cat >"$fetched/bin/tritonserver" <<'WRAPPER'
#!/bin/sh
server=$(dirname "$0")/../root/pytriton/tritonserver
LD_LIBRARY_PATH="$(python3 -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" \
    exec "$server/bin/tritonserver" --backend-directory "$server/backends" "$@"
WRAPPER
cat >"$fetched/bin/perf_analyzer" <<'WRAPPER'
#!/bin/sh
libraries=$(dirname "$0")/../libraries
LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}" exec "$libraries/perf_analyzer" "$@"
WRAPPER
chmod +x "$fetched"/bin/*
for each in tritonserver perf_analyzer; do
    # Both print their usage and exit with something else than 0: what counts is that they load.
    if "$fetched/bin/$each" --help 2>&1 | grep -q 'error while loading shared libraries\|version .* not found'; then
        say "$each does not run on this machine: $("$fetched/bin/$each" --help 2>&1 | head -n1)"
        [ "$each" != "$program" ] || exit 1
    fi
done
# Another process that does the same may have been faster.
rm -f "$fetched/log"
touch "$fetched/ready"
mv -T "$fetched" "$home" 2>/dev/null || [ -f "$home/ready" ]
echo "$home/bin/$program"
