#!/usr/bin/env bash
# Finds the servers that tests talk to (redis-server, docker-registry), or fetches them into the cache.
#
#   scripts/setup-services.sh [--required]
#
# A program on the PATH comes first, then our own copy in the cache. On Debian and its relatives that copy is
# unpacked from the distribution's packages, checked by apt, with the libraries that are not installed;
# nothing is installed on the system, and no root is needed. Elsewhere, and without a network, the tests that
# need the program say so and are skipped; with --required that is an error here. Messages go to standard error.
set -euo pipefail

required=no
for option in "$@"; do
    case $option in
        --required) required=yes ;;
        *) echo "unknown option $option; usage: $0 [--required]" >&2; exit 2 ;;
    esac
done

home="${XDG_CACHE_HOME:-$HOME/.cache}/sluice/services"

say() { echo "services: $*" >&2; }

give_up() {
    if [ "$required" = yes ]; then
        say "error: $*"
        exit 1
    fi
    say "warning: $*; the tests that need it are skipped"
    exit 0
}

# Whether a program runs at all: libraries may be missing.
works() {
    "$1" --version >/dev/null 2>&1
}

# Those that are not on the PATH; all of them are fetched again when one of them is not whole.
missing=()
whole=yes
for program in redis-server docker-registry; do
    if found=$(command -v "$program"); then
        say "using $found"
    else
        missing+=("$program")
        { [ -x "$home/bin/$program" ] && works "$home/bin/$program"; } || whole=no
    fi
done
if [ "$whole" = yes ]; then
    for program in "${missing[@]}"; do say "using $home/bin/$program"; done
    exit 0
fi

names="${missing[*]}"
for tool in apt-get dpkg; do
    command -v "$tool" >/dev/null || give_up "$names is not installed, and there is no $tool to fetch it with"
done

# What apt would install for them. Service scripts and the like come along and do no harm.
if ! plan=$(apt-get install --simulate --no-install-recommends "${missing[@]}" 2>&1); then
    give_up "apt does not know $names: $(tail -n1 <<<"$plan")"
fi
mapfile -t packages < <(awk '$1 == "Inst" { print $2 }' <<<"$plan")

mkdir -p "$home"
fetched=$(mktemp -d "$home/fetch.XXXXXX")
trap 'rm -rf "$fetched"' EXIT
say "fetching ${packages[*]} into $home"
mkdir "$fetched/packages" "$fetched/root"
# apt fetches as a user of its own, who must be able to write there.
chmod 755 "$fetched"; chmod 777 "$fetched/packages"
if ! (cd "$fetched/packages" && apt-get download --quiet "${packages[@]}" >"$fetched/log" 2>&1); then
    give_up "could not fetch $names: $(grep -m1 '^E:' "$fetched/log" || tail -n1 "$fetched/log")"
fi
for package in "$fetched"/packages/*.deb; do
    dpkg -x "$package" "$fetched/root"
done

libraries=$(cd "$fetched/root" && find . -name '*.so*' -printf '%h\n' | sort -u | sed 's|^\.|$root|' | paste -sd:)
mkdir "$fetched/bin"
for program in "${missing[@]}"; do
    cat >"$fetched/bin/$program" <<WRAPPER
#!/bin/sh
root=\$(dirname "\$0")/../root
LD_LIBRARY_PATH="$libraries\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}" exec "\$root/usr/bin/$program" "\$@"
WRAPPER
    chmod +x "$fetched/bin/$program"
    works "$fetched/bin/$program" || give_up "$program does not run on this machine"
done
# The programs come last: one that is there has its libraries.
rm -rf "$home/bin" "$home/root"
mv "$fetched/root" "$home/root"
mv "$fetched/bin" "$home/bin"
for program in "${missing[@]}"; do say "using $home/bin/$program"; done
