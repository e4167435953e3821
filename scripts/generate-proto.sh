#!/usr/bin/env bash
# Makes gateway/server/proto/{descriptors.bin,types} from the .proto files beside them.
#
#   scripts/generate-proto.sh [--check]
#
# With --check nothing is written: it fails if what is committed is not what the files say.
set -euo pipefail
cd "$(dirname "$0")/../gateway/server/proto"

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
cargo run --quiet --locked --manifest-path generate/Cargo.toml -- "$out"
if [ "${1:-}" = --check ]; then
    cmp "$out/descriptors.bin" descriptors.bin
    diff -r "$out/types" types
else
    cp "$out/descriptors.bin" .
    rm -rf types
    cp -r "$out/types" .
fi
