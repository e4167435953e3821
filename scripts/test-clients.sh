#!/usr/bin/env bash
# Lets clients of others loose on a real gateway that serves the model repository of tests/oracle.
#
#   scripts/test-clients.sh [STEP...]
#
# Steps, all of them if none is named:
#   oracle      700 requests whose answers are compared with those of a real Triton, which are recorded
#   http grpc   tritonclient as it is installed
#   aio         its asyncio clients
#   tfserving   what clients of TensorFlow Serving's REST interface send
#   stateful    tritonclient with sequences and with models that answer several times
#   kserve      KServe's own client, over REST (V1, V2) and gRPC
#   perf        perf_analyzer, over HTTP and gRPC
#   fuzz        thousands of requests that are mostly wrong
#   openapi     schemathesis, which knows nothing but the listener's OpenAPI document
# SLUICE_PROGRAM names the program to test.
set -euo pipefail
cd "$(dirname "$0")/.."

program=${SLUICE_PROGRAM:-${CARGO_TARGET_DIR:-target}/debug/sluice}
python=$(scripts/python-venv.sh tests/oracle/requirements.lock)
steps=("$@")
[ ${#steps[@]} -gt 0 ] || steps=(oracle http grpc aio tfserving kserve perf fuzz openapi stateful)
wanted() { [[ " ${steps[*]} " == *" $1 "* ]]; }

# The models are ONNX with strings and small types, which the embedded engine does not run.
library=$(scripts/setup-onnxruntime.sh --required --print)

folder=$(mktemp -d)
gateway=
finish() {
    if [ -n "$gateway" ]; then kill "$gateway" 2>/dev/null && wait "$gateway" || true; fi
    rm -rf "$folder"
}
trap finish EXIT

mkdir "$folder/models"
cat >"$folder/stateful.toml" <<CONFIG
[server]
admin_without_tokens = true
[engine]
onnxruntime_library = "$library"
[repositories.clients]
path = "$folder/models"
[plugins.repeat]
file = "$PWD/guest-examples/dist/repeat.wasm"
[pipelines.repeat_int32]
plugin = "repeat"
timeout_ms = 30000
CONFIG
cat >"$folder/sluice.toml" <<CONFIG
[server]
name = "triton"
admin_without_tokens = true
[server.shared_memory]
enabled = true
[engine]
onnxruntime_library = "$library"
[repositories.oracle]
path = "$PWD/tests/oracle/repository"
control = "explicit"
load = ["*"]
exit_on_error = false
CONFIG

# Starts the gateway with one of the two configurations, in place of the one that runs.
start() {
    if [ -n "$gateway" ]; then kill "$gateway" && wait "$gateway"; fi
    : >"$folder/table"
    "$program" serve --config "$folder/$1.toml" --http 127.0.0.1:0 --grpc 127.0.0.1:0 --admin 127.0.0.1:0 \
        >"$folder/table" 2>>"$folder/log" &
    gateway=$!
    for _ in $(seq 200); do
        http=$(sed -n 's|.*http://\([0-9.:]*\)/v2.*|\1|p' "$folder/table" | head -n1)
        grpc=$(sed -n 's|.*grpc://\([0-9.:]*\).*|\1|p' "$folder/table" | head -n1)
        [ -z "$http" ] || [ -z "$grpc" ] || return 0
        kill -0 "$gateway" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
        sleep 0.1
    done
    cat "$folder/table" "$folder/log" >&2
    exit 1
}

failed=()
step() {
    local name=$1
    shift
    wanted "$name" || return 0
    local before=$SECONDS
    "$@" || failed+=("$name")
    echo "clients: $name took $((SECONDS - before)) s"
    kill -0 "$gateway" || { echo "clients: the gateway is gone after $name" >&2; tail -n 50 "$folder/log" >&2; exit 1; }
}

oracle() { "$python" tests/oracle/oracle.py compare "$http" "$grpc"; }
http() { "$python" tests/clients/sync_client.py http "$http"; }
grpc() { "$python" tests/clients/sync_client.py grpc "$grpc"; }
aio() {
    "$python" tests/clients/aio_client.py http "$http"
    "$python" tests/clients/aio_client.py grpc "$grpc"
}
tfserving() { "$python" tests/clients/tfserving.py "$http"; }

kserve() {
    local tools
    tools=$(scripts/python-venv.sh tests/clients/kserve.lock)
    "$tools" tests/clients/kserve_client.py "$http" "$grpc"
}
stateful() { "$python" tests/clients/stateful_client.py "$http" "$grpc"; }

# How fast a debug build is says nothing: what counts is that the tool finds all it asks for.
perf() {
    local analyzer each
    if ! analyzer=$(scripts/setup-triton.sh perf_analyzer); then
        echo "clients: perf_analyzer cannot be had here: skipped"
        return 0
    fi
    for each in "http $http --input-tensor-format json" "http $http" "grpc $grpc" "grpc $grpc --async" "grpc $grpc --streaming" \
        "http $http --shared-memory system" "grpc $grpc --shared-memory system"; do
        # shellcheck disable=SC2086 # several words
        set -- $each
        if ! "$analyzer" -m simple -i "$1" -u "$2" "${@:3}" --request-count 300 --concurrency-range 4 \
            -f "$folder/perf.csv" >"$folder/perf" 2>&1; then
            tail -n 30 "$folder/perf"
            return 1
        fi
        # Errors do not change its exit code.
        if grep -qi 'fail\|error' "$folder/perf" || ! grep -q 'Throughput: [1-9]' "$folder/perf"; then
            cat "$folder/perf"
            return 1
        fi
        echo "clients: perf_analyzer $1 ${*:3}:$(sed -n 's/^ *Throughput: /: /p' "$folder/perf" | tail -n1 | tr -d ':')"
    done
}

openapi() {
    local tools
    tools=$(dirname "$(scripts/python-venv.sh tests/openapi/requirements.lock)")
    "$python" -c 'import sys, urllib.request as r; sys.stdout.write(r.urlopen(sys.argv[1]).read().decode())' \
        "http://$http/openapi.json" >"$folder/openapi.json"
    "$tools/schemathesis" --config-file tests/openapi/predictions.toml run "$folder/openapi.json" \
        --url "http://$http" --max-examples 15 --seed 1 --generation-database none
}

fuzz() { "$python" tests/clients/fuzz.py "$http" "$grpc" 4000 1; }

start sluice
step oracle oracle
step http http
step grpc grpc
step aio aio
step tfserving tfserving
step kserve kserve
step perf perf
step fuzz fuzz
# Behind the others: it unloads models.
step openapi openapi
if wanted stateful; then
    "$python" scripts/make-client-models.py "$folder/models"
    start stateful
    step stateful stateful
fi
if grep -i panicked "$folder/log"; then failed+=(panicked); fi
[ ${#failed[@]} -eq 0 ] || { echo "clients: failed: ${failed[*]}" >&2; exit 1; }
