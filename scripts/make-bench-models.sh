#!/usr/bin/env bash
# Makes the benchmark's models (46 MB), request bodies and golden answers, unless they are there already.
#
#   scripts/make-bench-models.sh
#
# They go to SLUICE_BENCH_DIR, by default the cache; their definition is bench/workload.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
workload="$root/bench/workload"
directory=${SLUICE_BENCH_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice/bench}
stamp=$(cat "$workload"/*.py "$workload/requirements.lock" | cksum)

if [ "$(cat "$directory/made-from" 2>/dev/null || true)" = "$stamp" ]; then
    exit 0
fi
python=$("$root/scripts/python-venv.sh" "$workload/requirements.lock")
echo "bench: making models and golden answers in $directory" >&2
mkdir -p "$directory"
rm -f "$directory/made-from"
PYTHONDONTWRITEBYTECODE=1 "$python" "$workload/make_models.py" "$directory"
echo "$stamp" >"$directory/made-from"
