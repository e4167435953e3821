#!/usr/bin/env bash
# Gives a Debian machine whose rustup has no wasm32 standard library, and cannot
# download one, a Rust toolchain that builds plugins:
#
#   scripts/guest-toolchain.sh          # once; later calls return at once
#   cargo +guest build --release --target wasm32-unknown-unknown
#
# It unpacks Debian's own compiler (rustc-web, for x86_64 only) into a private folder,
# builds the standard library for the wanted targets from Debian's matching source
# package, and links the result into rustup as the toolchain $NAME. It installs no
# package. Where the active toolchain has the targets it says so and stops.
#
# Settings: PREFIX (where), NAME (the toolchain's name in rustup), TARGETS, JOBS,
# FORCE=1 (build even if cached or not needed).
set -euo pipefail

prefix=${PREFIX:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice/guest-toolchain}
name=${NAME:-guest}
targets=${TARGETS:-wasm32-unknown-unknown wasm32-wasip2}
jobs=${JOBS:-$(nproc)}
host=x86_64-unknown-linux-gnu
recipe=1 # raise it to rebuild cached copies
toolchain=$prefix/toolchain
stamp="recipe $recipe: $targets"

say() { printf 'guest-toolchain: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

active_has_all() {
    local target
    for target in $targets; do
        [ -d "$(rustc --print target-libdir --target "$target" 2>/dev/null)" ] || return 1
    done
}

if [ -z "${FORCE:-}" ]; then
    if active_has_all; then say "the active toolchain already has: $targets"; exit 0; fi
    if [ "$(cat "$toolchain/stamp" 2>/dev/null || true)" = "$stamp" ]; then
        rustup toolchain link "$name" "$toolchain"
        say "cached: $(cat "$toolchain/version")"
        exit 0
    fi
fi

for tool in rustup rustc apt-get apt-cache dpkg-deb; do
    command -v "$tool" >/dev/null || die "$tool is missing: this recipe is for Debian with rustup"
done
[ "$(rustc -vV | awk '/^host:/{print $2}')" = "$host" ] || die "this recipe is for $host"

mkdir -p "$prefix"
exec 9>"$prefix/lock"
flock 9
own=$(rustc --print sysroot) # rustup's: its linkers and its cargo are used on
work=$prefix/work
rm -rf "$work" "$toolchain"
mkdir -p "$work/debs" "$toolchain/bin" "$toolchain/lib"

# 1. The compiler, its own standard library, LLVM and the source: about 137 MB.
fetch() {
    local version short llvm libc=()
    version=$(apt-cache policy rustc-web | awk '/Candidate:/{print $2}')
    [ -n "$version" ] && [ "$version" != "(none)" ] || return 1
    short=${version%%+*}
    short=${short%.*} # 1.96.0+dfsg... -> 1.96
    llvm=$(apt-cache depends "libstd-rust-web-$short" | awk '/Depends: libllvm/{print $2; exit}')
    case " $targets " in *wasip*) libc=(wasi-libc) ;; esac
    (cd "$work/debs" && rm -f -- *.deb && apt-get download -qq "rustc-web=$version" \
        "libstd-rust-web-$short=$version" "libstd-rust-web-dev=$version" "rust-web-src=$version" \
        "$llvm" "${libc[@]}") || return 1
    echo "rustc-web $version" >"$toolchain/version"
}
fetch 2>/dev/null || {
    say "refreshing the package lists"
    apt-get update -qq || die "the package lists cannot be refreshed"
    fetch || die "Debian's package rustc-web cannot be downloaded"
}
(cd "$work/debs" && sha256sum -- *.deb) >"$toolchain/debs.sha256"

# 2. Unpack; of the source package only the standard library.
for package in "$work"/debs/*.deb; do
    case $package in
        */rust-web-src_*)
            dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work" --wildcards './usr/src/rustc-*/library/*' ;;
        *) dpkg-deb --fsys-tarfile "$package" | tar -x -C "$work" --exclude './usr/share/*' ;;
    esac
done
rm -rf "$work/debs"
mv "$work/usr/bin/rustc" "$toolchain/bin/"
mv "$work/usr/lib/rustlib" "$toolchain/lib/"
rm -rf "$toolchain/lib/rustlib/src"
# The compiler takes the folder of its libraries for its sysroot.
mv "$work"/usr/lib/x86_64-linux-gnu/*.so* "$toolchain/lib/"

# 3. Linkers and cargo stay where they are, so that they find their own libraries.
mkdir -p "$toolchain/lib/rustlib/$host/bin"
for tool in rust-lld wasm-component-ld gcc-ld; do
    ln -sfn "$own/lib/rustlib/$host/bin/$tool" "$toolchain/lib/rustlib/$host/bin/$tool"
done
ln -sfn "$own/bin/cargo" "$toolchain/bin/cargo"

# 4. The standard library, built as the compiler's own build does it. Paths are
#    remapped, so that plugins carry no path of this machine in their panic messages.
source=$(echo "$work"/usr/src/rustc-*/library)
export LD_LIBRARY_PATH=$toolchain/lib RUSTC=$toolchain/bin/rustc RUSTC_BOOTSTRAP=1
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET RUSTC_WRAPPER RUSTUP_TOOLCHAIN
for target in $targets; do
    "$toolchain/bin/cargo" fetch -q --manifest-path "$source/sysroot/Cargo.toml" --locked --target "$target"
    flags="'-Zforce-unstable-if-unmarked','--remap-path-prefix=$source=/rustc/library'"
    for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
        flags+=",'--remap-path-prefix=$folder=/deps'"
    done
    "$toolchain/bin/cargo" build --manifest-path "$source/sysroot/Cargo.toml" --locked --profile dist \
        --target "$target" -j "$jobs" --target-dir "$work/target" \
        --config 'profile.dist.debug=0' --config "target.$target.rustflags=[$flags]"
    lib=$toolchain/lib/rustlib/$target/lib
    mkdir -p "$lib"
    cp "$work/target/$target/dist/deps/"*.rlib "$lib/"
    case $target in
        *wasip*) mkdir -p "$lib/self-contained"; cp "$work"/usr/lib/wasm32-wasi/* "$lib/self-contained/" ;;
    esac
done
rm -rf "$work"
rustup toolchain link "$name" "$toolchain"
echo "$stamp" >"$toolchain/stamp"
say "ready: cargo +$name build --release --target ${targets%% *} ($(cat "$toolchain/version"))"
