#!/usr/bin/env bash
# Starts a real Triton over a copy of a model repository in the working folder: serve.sh ROOT PYTHON MODELS PORT
set -euo pipefail
root=$1 python=$2 models=$3 port=$4

server=$("$root/scripts/setup-triton.sh" tritonserver)
cp -r "$models" models
for model in models/*/1/model.py; do
    # Its Python backend looks for modules beside the model.
    cp "$root/bench/peers/common/pipeline.py" "$root"/bench/peers/triton/*.py "$(dirname "$model")"
done
# And for packages where the first `python3` has them.
PATH="$(dirname "$python"):$PATH" exec "$server" --model-repository models --http-address 127.0.0.1 --http-port "$port" \
    --allow-grpc false --allow-metrics false --log-info false --disable-auto-complete-config
