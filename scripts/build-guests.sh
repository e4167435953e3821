#!/usr/bin/env bash
# Builds the plugins of guest-examples/ and tests/guests/ into components:
#
#   scripts/build-guests.sh                    # into the committed dist/ folders
#   scripts/build-guests.sh --check            # proves that dist/ is what the source builds
#   scripts/build-guests.sh --check --out DIR  # the same; fresh ones go to DIR, to be tested
#
# --check compares only if this machine has the compiler that made dist/; components of
# another compiler differ, and whether they behave the same is for the tests to say.
#
# Exit status: 0 built, or the same, or not comparable; 1 different; 2 cannot build.
#
# Settings: SLUICE_OFFLINE=1 downloads nothing; CARGO_TARGET_DIR for the guests' builds.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

workspaces=(guest-examples tests/guests)
plain=wasm32-unknown-unknown
wasi=wasm32-wasip2
wasi_packages=(nn-command services-probe wasi-hello)
# How long rustup may try to fetch a target, in seconds.
fetch_seconds=120

say() { printf 'build-guests: %s\n' "$*" >&2; }
die() { say "$*"; exit 2; }

# A folder of its own: cargo takes what a plain `cargo build` left for up to date, and
# that was not built by the wrapper below. Count up when flags or wrapper change.
target_dir=${CARGO_TARGET_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice/guest-target}/same-everywhere-2

check= out=
while [ $# -gt 0 ]; do
    case $1 in
        --check) check=1 ;;
        --out) out=${2:?--out needs a folder}; shift ;;
        *) die "unknown argument $1" ;;
    esac
    shift
done
[ -z "$out" ] || [ -n "$check" ] || die "--out goes with --check"
command -v cargo >/dev/null || die "cargo is missing: install Rust"

# The toolchain: the active one if it can, else one that only builds guests.
has_targets() { # [toolchain argument of rustc]
    local target
    for target in "$plain" "$wasi"; do
        [ -d "$(rustc "$@" --print target-libdir --target "$target" 2>/dev/null)" ] || return 1
    done
}
add_targets() {
    [ -z "${SLUICE_OFFLINE:-}" ] && command -v rustup >/dev/null || return 1
    say "asking rustup for $plain and $wasi"
    timeout "$fetch_seconds" rustup target add "$plain" "$wasi" >&2
}
toolchain=
if has_targets; then :
elif add_targets && has_targets; then :
elif has_targets +guest; then toolchain=+guest
elif [ -z "${SLUICE_OFFLINE:-}" ] && TARGETS="$plain $wasi" "$root/scripts/guest-toolchain.sh" && has_targets +guest; then
    toolchain=+guest
else
    die "no toolchain has the targets $plain and $wasi: rustup target add $plain $wasi"
fi
sysroot=$(rustc $toolchain --print sysroot)
tools=$sysroot/lib/rustlib/$(rustc $toolchain -vV | awk '/^host:/{print $2}')/bin
[ -x "$tools/wasm-component-ld" ] || die "$tools has no wasm-component-ld: Rust 1.82 or later is wanted"

# Everything that decides about the bytes.
toolchain_lines() {
    rustc $toolchain --version
    cargo $toolchain --version
    "$tools/wasm-component-ld" --version
    if [ -f "$sysroot/version" ]; then cat "$sysroot/version"; fi
}

# Panic messages hold paths of sources: none of this machine may get into a component.
remap_flags() {
    # The heap lies in memory that is there from the start: see .cargo/config.toml.
    local folder flags="-Clink-arg=--initial-memory=2097152"$'\x1f'"--remap-path-prefix=$root=/sluice"
    for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
        flags+=$'\x1f'"--remap-path-prefix=$folder=/deps"
    done
    printf '%s' "$flags"
}

build() { # workspace
    local excluded=() package
    export CARGO_TARGET_DIR=$target_dir
    cd "$root/$1"
    cargo $toolchain fetch -q --locked ${SLUICE_OFFLINE:+--offline} || die "the dependencies of $1 cannot be fetched"
    CARGO_ENCODED_RUSTFLAGS=$(remap_flags)
    export CARGO_ENCODED_RUSTFLAGS
    unset RUSTFLAGS
    export RUSTC_WRAPPER=$root/scripts/rustc-same-everywhere.sh SLUICE_ROOT=$root
    # Built by an older source, and no longer by this one.
    rm -f "$target_dir/$plain/release/"*.wasm "$target_dir/$wasi/release/"*.wasm
    for package in "${wasi_packages[@]}"; do
        if [ -d "$package" ]; then
            excluded+=(--exclude "$package")
            cargo $toolchain build -q --locked --release --target "$wasi" -p "$package"
        fi
    done
    cargo $toolchain build -q --locked --release --target "$plain" --workspace "${excluded[@]}"
}

collect() { # workspace, folder
    mkdir -p "$2"
    rm -f "$2"/*.wasm "$2/SHA256SUMS" "$2/TOOLCHAIN"
    find "$target_dir/$plain/release" "$target_dir/$wasi/release" -maxdepth 1 -name '*.wasm' -exec cp {} "$2/" \; 2>/dev/null || true
    chmod 644 "$2"/*.wasm
    (cd "$2" && LC_ALL=C sha256sum -- *.wasm >SHA256SUMS)
    toolchain_lines >"$2/TOOLCHAIN"
}

# The rest of a machine's identity must not travel either.
check_clean() { # folder
    local found
    found=$(grep -laE "registry/src|$root|${CARGO_HOME:-$HOME/.cargo}" "$1"/*.wasm || true)
    [ -z "$found" ] || die "paths of this machine are in: $found"
}

fresh=$root
if [ -n "$check" ]; then
    fresh=${out:-$(mktemp -d)}
    [ -n "$out" ] || trap 'rm -rf "$fresh"' EXIT
fi

status=0
for workspace in "${workspaces[@]}"; do
    say "building $workspace with $(rustc $toolchain --version)"
    (build "$workspace") || die "$workspace does not build"
    (collect "$workspace" "$fresh/$workspace/dist")
    check_clean "$fresh/$workspace/dist"
    [ -n "$check" ] || { say "wrote $workspace/dist"; continue; }
    committed=$root/$workspace/dist
    if ! cmp -s "$committed/TOOLCHAIN" "$fresh/$workspace/dist/TOOLCHAIN"; then
        say "$workspace: not comparable, dist/ was built by $(head -1 "$committed/TOOLCHAIN" 2>/dev/null || echo nobody)"
    elif ! diff -u "$committed/SHA256SUMS" "$fresh/$workspace/dist/SHA256SUMS" >&2 ||
        ! (cd "$committed" && sha256sum --quiet --check SHA256SUMS >&2); then
        say "$workspace: dist/ is not what the source builds: run scripts/build-guests.sh and commit"
        status=1
    else
        say "$workspace: dist/ is what the source builds"
    fi
done
[ -z "$out" ] || say "fresh components are in $out"
exit $status
