#!/usr/bin/env bash
# Prints the path of a Python that has what a lock file lists, after making its environment if need be.
#
#   scripts/python-venv.sh LOCK
#
# Environments lie in the cache, one for each content of a lock file. PYTHON names the interpreter to use.
set -euo pipefail

lock=$1
python=${PYTHON:-python3}
digest=$("$python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read() + sys.version.encode()).hexdigest()[:16])' "$lock")
home="${XDG_CACHE_HOME:-$HOME/.cache}/sluice/venv/$digest"

if [ ! -f "$home/ready" ]; then
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "python: 3.11 or newer is needed, $("$python" --version) found; name another one in PYTHON" >&2
        exit 1
    fi
    echo "python: making an environment for $(basename "$(dirname "$lock")")/$(basename "$lock")" >&2
    rm -rf "$home"
    mkdir -p "$(dirname "$home")"
    "$python" -m venv "$home" >&2
    "$home/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: --require-hashes -r "$lock" >&2
    touch "$home/ready"
fi
echo "$home/bin/python"
