#!/usr/bin/env bash
# Measures Sluice beside other servers on the same workload, and writes bench/report/peers.md.
#
#   scripts/bench-peers.sh [PEER...]
#
# Peers are the folders of bench/peers, all of them if none is named; Sluice with fresh instances is always among them.
# First all environments are made (minutes and 3 GB the first time, nothing to do the second), then the servers take
# turns: each alone on one core, the load generator on another. One that cannot be installed here, does not start or
# answers wrongly is named in the report and left out. What is measured: SLUICE_PROGRAM and SLUICE_BENCH_PROGRAM, by
# default the release builds. ROUNDS (3), MILLISECONDS (600), CONCURRENCY (1,8,64) and REPORT (bench/report) change
# the run.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "peers: $*" >&2; }

folder=bench/peers
target=${CARGO_TARGET_DIR:-target}
program=$(realpath "${SLUICE_PROGRAM:-$target/release/sluice}")
bench=$(realpath "${SLUICE_BENCH_PROGRAM:-$target/release/sluice-bench}")
export SLUICE_BENCH_DIR=${SLUICE_BENCH_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/sluice/bench}
# In this order in each round.
peers=("$@")
[ ${#peers[@]} -gt 0 ] || peers=(echo hand-written sluice-reused mosec fastapi triton triton-ensemble litserve bentoml mlserver kserve ray torchserve)

# The first two cores that we may use.
cores=$(python3 -c 'import os; print(*sorted(os.sched_getaffinity(0))[:2])')
read -r server_core load_core <<<"$cores"
if [ -z "${load_core:-}" ]; then
    say "two cores are needed: one for the server, one for the load generator"
    exit 1
fi

scripts/make-bench-models.sh
# The same library of the engine's for all.
ORT_DYLIB_PATH=$(scripts/setup-onnxruntime.sh --required --print)
export ORT_DYLIB_PATH

log=$(mktemp)
trap 'rm -f "$log"' EXIT
arguments=(--peer sluice=)
leave_out() {
    say "$1 is left out: $2"
    arguments+=(--left-out "$1=$2")
}
for peer in "${peers[@]}"; do
    here=$folder/$peer
    [ "$peer" != sluice ] || continue
    if [ ! -f "$here/peer.json" ]; then
        say "there is no $here/peer.json"
        exit 2
    fi
    # Ensemble and whole models have the same environment.
    lock=$folder/${peer%-ensemble}/requirements.lock
    python=
    if [ -f "$lock" ]; then
        say "setting up $peer"
        if ! python=$(scripts/python-venv.sh "$lock" 2>"$log"); then
            leave_out "$peer" "its packages cannot be installed: $(grep -v '^$' "$log" | tail -n1)"
            continue
        fi
    fi
    if [ -x "$here/setup.sh" ] && ! "$here/setup.sh" "$python" 2>"$log"; then
        leave_out "$peer" "$(tail -n1 "$log")"
        continue
    fi
    arguments+=(--peer "$peer=$python")
done

say "measuring"
taskset -c "$load_core" "$bench" --peers "$folder" --program "$program" --core "$server_core" \
    --rounds "${ROUNDS:-3}" --milliseconds "${MILLISECONDS:-600}" --concurrency "${CONCURRENCY:-1,8,64}" \
    --report "${REPORT:-bench/report}" "${arguments[@]}"
