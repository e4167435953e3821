#!/usr/bin/env bash
# The demo: set up, build, serve the movie ranking in the foreground, and show a
# first prediction. Ctrl-C ends it.
set -euo pipefail
cd "$(dirname "$0")/.."

HTTP=${SLUICE_DEMO_HTTP:-127.0.0.1:8000}
ADMIN=${SLUICE_DEMO_ADMIN:-127.0.0.1:8002}
REQUEST=config/demo-request.json
READY_SECONDS_MAX=60

scripts/setup.sh --to-serve
echo "demo: building in release mode (the first time takes some ten minutes on two cores)"
cargo build --release --bin sluice
target=$(cargo metadata --format-version 1 --no-deps | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])')

"$target/release/sluice" serve --config config/demo.toml --http "$HTTP" --admin "$ADMIN" &
server=$!
trap 'kill -TERM "$server" 2>/dev/null || true' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

ready() {
    python3 - "$HTTP" <<'PY' 2>/dev/null
import sys, urllib.request
urllib.request.urlopen(f"http://{sys.argv[1]}/v2/health/ready", timeout=2).read()
PY
}
for ((i = 0; i < READY_SECONDS_MAX * 5; i++)); do
    kill -0 "$server" 2>/dev/null || { wait "$server"; exit 1; }
    ready && break
    sleep 0.2
done
ready || { echo "demo: the server did not get ready in $READY_SECONDS_MAX s" >&2; exit 1; }

echo
echo "A first prediction: POST /v1/models/rank-movies:predict with $REQUEST"
python3 - "$HTTP" "$REQUEST" <<'PY'
import json, sys, urllib.request
body = open(sys.argv[2], "rb").read()
url = f"http://{sys.argv[1]}/v1/models/rank-movies:predict"
request = urllib.request.Request(url, body, {"content-type": "application/json"})
print(json.dumps(json.load(urllib.request.urlopen(request, timeout=30)), indent=2))
PY
cat <<EOF

The next one is yours:

  curl -s http://$HTTP/v1/models/rank-movies:predict -H 'content-type: application/json' -d @$REQUEST

Ctrl-C stops the gateway.
EOF
wait "$server"
