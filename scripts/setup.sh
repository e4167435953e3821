#!/usr/bin/env bash
# Fetches what is not in the repository. Quick when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."

need() {
    command -v "$1" >/dev/null || { echo "setup: $1 is missing: $2" >&2; exit 1; }
}
need cargo "install Rust 1.95 or later"
need cc "install a C compiler"
need python3 "install Python 3.10 or later with pip"

scripts/setup-onnxruntime.sh
