#!/usr/bin/env bash
# Rebuilds the movie example from its data: store, worked examples and model; then reports on the model.
#
#   scripts/train-movies.sh [--evaluate]
#
# With --evaluate nothing is rebuilt: the committed files are checked and the report is printed.
# The data is the table of the npm package below, fetched once into the cache and checked by digest.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
movies="$root/guest-examples/movies"
package="vega-datasets@3.2.1"
table_sha256="e63c499759e3b07b49563e036f55290f87feb56def8703ec049ca305ab1523d3"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/sluice/movies/$package"
table="$cache/movies.json"
export PYTHONDONTWRITEBYTECODE=1

python=$("$root/scripts/python-venv.sh" "$movies/requirements.lock")
if [ ! -f "$table" ]; then
    echo "movies: fetching $package" >&2
    mkdir -p "$cache"
    fetched=$(mktemp -d "$cache/fetch.XXXXXX")
    trap 'rm -rf "$fetched"' EXIT
    npm pack --silent --pack-destination "$fetched" "$package" >/dev/null
    tar -xzf "$fetched"/*.tgz -C "$fetched" package/data/movies.json
    "$python" - "$fetched/package/data/movies.json" "$table_sha256" <<'PY'
import hashlib, sys
if hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest() != sys.argv[2]:
    sys.exit("movies: the table is not the one that this example was made from")
PY
    mv "$fetched/package/data/movies.json" "$table"
fi

cd "$movies"
if [ "${1:-}" != --evaluate ]; then
    "$python" make-store.py "$table" >movies.jsonl
    "$python" make-vectors.py >vectors.json
    "$python" train.py "$table"
fi
"$python" make-vectors.py | cmp - vectors.json || { echo "movies: vectors.json is out of date" >&2; exit 1; }
"$python" evaluate.py "$table"
