#!/usr/bin/env bash
# Finds Java, and PyTorch without CUDA for TorchServe's workers, or fetches the latter into the cache.
#
#   setup.sh PYTHON
#
# PyPI has PyTorch for Linux with CUDA only, which are gigabytes. Debian's packages are unpacked beside our other
# things in the cache; nothing is installed on the system. The last line on standard error says what is missing.
set -euo pipefail
python=$1

say() { echo "$*" >&2; }

command -v java >/dev/null || { say "there is no java"; exit 1; }
"$python" -c 'import torch' 2>/dev/null && exit 0
home="${XDG_CACHE_HOME:-$HOME/.cache}/sluice/torch"
[ ! -f "$home/ready" ] || exit 0
for tool in apt-get dpkg; do
    command -v "$tool" >/dev/null || { say "there is no PyTorch, and no $tool to fetch it with"; exit 1; }
done

# Its Python packages come from the lock file, and Debian's Python is not needed.
if ! plan=$(apt-get install --simulate --no-install-recommends libtorch1.13 2>&1); then
    say "apt does not know PyTorch: $(tail -n1 <<<"$plan")"
    exit 1
fi
mapfile -t packages < <(awk '$1 == "Inst" { print $2 }' <<<"$plan")
mkdir -p "$(dirname "$home")"
fetched=$(mktemp -d "$(dirname "$home")/fetch.XXXXXX")
trap 'rm -rf "$fetched"' EXIT
say "fetching PyTorch and its libraries"
mkdir "$fetched/packages" "$fetched/root" "$fetched/python"
# apt fetches as a user of its own, who must be able to write there.
chmod 755 "$fetched"; chmod 777 "$fetched/packages"
if ! (cd "$fetched/packages" && apt-get download --quiet "${packages[@]}" python3-torch >"$fetched/log" 2>&1); then
    say "could not fetch PyTorch: $(grep -m1 '^E:' "$fetched/log" || tail -n1 "$fetched/log")"
    exit 1
fi
for package in "$fetched"/packages/*.deb; do
    dpkg -x "$package" "$fetched/root"
done
rm -r "$fetched/packages"
# Of Debian's Python packages only these: all others would come before the lock file's.
for module in torch torchgen functorch; do
    ln -s "../root/usr/lib/python3/dist-packages/$module" "$fetched/python/$module"
done
(cd "$fetched/root" && find . -name '*.so*' -not -path '*/dist-packages/*' -printf '%h\n' | sort -u) >"$fetched/libraries"
libraries=$(sed "s|^\.|$fetched/root|" "$fetched/libraries" | paste -sd:)
if ! LD_LIBRARY_PATH="$libraries" PYTHONPATH="$fetched/python" "$python" -c 'import torch' 2>"$fetched/log"; then
    say "Debian's PyTorch does not run with this Python: $(tail -n1 "$fetched/log")"
    exit 1
fi
touch "$fetched/ready"
# Another process that does the same may have been faster.
mv -T "$fetched" "$home" 2>/dev/null || [ -f "$home/ready" ]
