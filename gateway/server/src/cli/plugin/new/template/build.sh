#!/usr/bin/env bash
# Builds the component {component}.
# It uses the active toolchain if that has the target, fetches the target if rustup can,
# and falls back to the toolchain `guest`, which Sluice's scripts/guest-toolchain.sh makes.
set -euo pipefail
cd "$(dirname "$0")"
target=wasm32-unknown-unknown
guest_toolchain='{guest-toolchain}'

has_target() { # [toolchain argument of rustc]
    [ -d "$(rustc "$@" --print target-libdir --target "$target" 2>/dev/null)" ]
}
toolchain=()
if has_target; then :
elif command -v rustup >/dev/null && timeout 120 rustup target add "$target" >&2 && has_target; then :
elif has_target +guest; then toolchain=(+guest)
elif [ -x "$guest_toolchain" ] && TARGETS=$target "$guest_toolchain" && has_target +guest; then toolchain=(+guest)
else
    echo "build: no toolchain has the target $target: rustup target add $target" >&2
    exit 2
fi
cargo "${toolchain[@]}" build --release --target "$target" --target-dir target "$@"
echo "built {component}"
