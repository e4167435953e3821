#!/usr/bin/env bash
# Starts a real Triton over the model repository of tests/oracle, asks it everything that tests/oracle/*_cases.py
# holds, and writes its answers into tests/oracle/recorded. Only needed when a request is added or changed:
# scripts/test-oracle.sh compares the gateway with what is recorded.
set -euo pipefail
cd "$(dirname "$0")/.."

server=$(scripts/setup-triton.sh tritonserver)
python=$(scripts/python-venv.sh tests/oracle/requirements.lock)

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# The same repository, with the Python that says what the ONNX files say.
cp -r tests/oracle/repository "$folder/repository"
for model in "$folder"/repository/*/*/model.onnx; do
    cp tests/oracle/triton_model.py "$(dirname "$model")/model.py"
    rm "$model"
done
sed -i 's/^backend: "onnxruntime"$/backend: "python"/' "$folder"/repository/*/config.pbtxt

site=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
http=$((20000 + $$ % 10000)) grpc=$((http + 1))
# The recorder starts it, as often as a request kills it.
PYTHONPATH="$site" "$python" tests/oracle/oracle.py record "127.0.0.1:$http" "127.0.0.1:$grpc" \
    "$server" --model-repository "$folder/repository" --model-control-mode explicit --load-model '*' \
    --http-address 127.0.0.1 --grpc-address 127.0.0.1 --http-port "$http" --grpc-port "$grpc" --allow-metrics false \
    2>"$folder/log" || { tail -n 50 "$folder/log" >&2; exit 1; }
