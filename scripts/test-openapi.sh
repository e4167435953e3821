#!/usr/bin/env bash
# Lets a generic client (schemathesis) loose on the admin listener of a real gateway, with nothing but its
# OpenAPI document: whatever it sends, answers are as documented, and none is a 5xx.
#
#   scripts/test-openapi.sh [EXAMPLES]
#
# EXAMPLES for each operation, 15 if absent; the seed is fixed. SLUICE_PROGRAM names the program to test.
set -euo pipefail
cd "$(dirname "$0")/.."

examples=${1:-15}
program=${SLUICE_PROGRAM:-${CARGO_TARGET_DIR:-target}/debug/sluice}
python=$(scripts/python-venv.sh tests/openapi/requirements.lock)

folder=$(mktemp -d)
gateway=
finish() {
    if [ -n "$gateway" ]; then kill "$gateway" 2>/dev/null && wait "$gateway" || true; fi
    rm -rf "$folder"
}
trap finish EXIT

read -r SLUICE_TOKEN < <("$program" token new --name generic --scope admin | tee "$folder/token")
export SLUICE_TOKEN
cat >"$folder/sluice.toml" <<CONFIG
[state]
dir = "state"
[models.wide]
engine = "sim"
file = "$PWD/tests/models/wide.sim.json"
[plugins.echo]
file = "$PWD/tests/guests/dist/echo.wasm"
owner = "team-a"
[plugins.spare]
owner = "team-b"
[pipelines.served]
pre = "echo"
model = "wide"
CONFIG
sed 1d "$folder/token" >>"$folder/sluice.toml"

"$program" serve --config "$folder/sluice.toml" --http 127.0.0.1:0 --grpc 127.0.0.1:0 --admin 127.0.0.1:0 \
    >"$folder/table" 2>"$folder/log" &
gateway=$!
address() { sed -n 's|.*http://\([0-9.:]*\)/metrics.*|\1|p' "$folder/table"; }
for _ in $(seq 100); do
    [ -n "$(address)" ] && break
    kill -0 "$gateway" 2>/dev/null || { cat "$folder/log" >&2; exit 1; }
    sleep 0.1
done
export SLUICE_SERVER="http://$(address)"

# Something to read, activate and split before the garbage comes.
for version in 1 2; do
    "$program" plugin push echo tests/guests/dist/echo.wasm --version "$version" >/dev/null
done
"$program" plugin activate echo 1 >/dev/null

schema="$folder/openapi.json"
"$python" - "$SLUICE_SERVER/admin/v1/openapi.json" >"$schema" <<'FETCH'
import os, sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"authorization": "Bearer " + os.environ["SLUICE_TOKEN"]})
sys.stdout.write(urllib.request.urlopen(request).read().decode())
FETCH

failed=no
run() {
    "$(dirname "$python")/schemathesis" --config-file tests/openapi/schemathesis.toml run "$schema" \
        --url "$SLUICE_SERVER" --max-examples "$examples" --seed 1 --generation-database none "$@" || failed=yes
}
# What only reads comes first, while there is something to read.
run --include-method GET
run --exclude-method GET

# The gateway is the one that was started, and does its work.
kill -0 "$gateway"
"$program" plugin push after tests/guests/dist/echo.wasm --version 1 --owner team-a >/dev/null
if grep -i panicked "$folder/log"; then failed=yes; fi
[ "$failed" = no ]
