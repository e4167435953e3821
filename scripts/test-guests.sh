#!/usr/bin/env bash
# Proves that the committed plugins are what their source builds. Where this machine has
# another compiler the bytes differ: then the suite runs on the fresh ones, which must
# behave the same. Then the templates of `sluice plugin new`: each must build with one
# command, and pass its native tests and its sample cases.
set -euo pipefail
cd "$(dirname "$0")/.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
# The guests' target folder is not the gateway's.
(unset CARGO_TARGET_DIR; scripts/build-guests.sh --check --out "$fresh")
for workspace in guest-examples tests/guests; do
    if ! cmp -s "$workspace/dist/TOOLCHAIN" "$fresh/$workspace/dist/TOOLCHAIN"; then
        echo "test-guests: another compiler than the committed plugins': testing the fresh ones"
        SLUICE_GUESTS_DIR=$fresh cargo test --workspace --test suite
        break
    fi
done

# Of the whole workspace: one package alone has other features, and builds everything again.
cargo build -q --workspace --bin sluice
sluice=${SLUICE_PROGRAM:-${CARGO_TARGET_DIR:-target}/debug/sluice}
for world in preprocessor postprocessor transformer pipeline; do
    made=$fresh/new/my-$world
    mkdir -p "$fresh/new" "$fresh/new-target"
    "$sluice" plugin new "$made" --world "$world" --sdk sdk/rust >/dev/null
    # One folder for all: their dependencies are the same.
    ln -s "$fresh/new-target" "$made/target"
    (unset CARGO_TARGET_DIR CARGO_BUILD_BUILD_DIR; cd "$made" && ./build.sh -q && cargo test -q)
    "$sluice" plugin test "$made/target/wasm32-unknown-unknown/release/my_$world.wasm" --samples "$made/samples.json"
done
