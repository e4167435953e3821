#!/usr/bin/env bash
# Fetches what is not in the repository. Quick when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

need() {
    command -v "$1" >/dev/null || { echo "setup: $1 is missing: $2" >&2; exit 1; }
}
need cargo "install Rust 1.95 or later"
rust=$(rustc --version | awk '{print $2}')
if [ "$(printf '1.95.0\n%s\n' "$rust" | sort -V | head -1)" != 1.95.0 ]; then
    echo "setup: Rust $rust is too old: 1.95 or later is needed (rustup update stable)" >&2
    exit 1
fi
need cc "install a C compiler"
need python3 "install Python 3.11 or later with pip"

scripts/setup-onnxruntime.sh
# The servers that tests talk to; whoever only serves needs none.
[ "${1:-}" = --to-serve ] || scripts/setup-services.sh
