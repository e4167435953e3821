#!/usr/bin/env bash
# Starts TorchServe with both pipelines in the working folder: serve.sh PYTHON PORT PORT2 ... PORT5
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=$1
shift

torch="${XDG_CACHE_HOME:-$HOME/.cache}/sluice/torch"
if [ -f "$torch/ready" ]; then
    LD_LIBRARY_PATH=$(sed "s|^\.|$torch/root|" "$torch/libraries" | paste -sd:)
    export LD_LIBRARY_PATH PYTHONPATH="$torch/python:$PYTHONPATH"
fi
PATH="$(dirname "$python"):$PATH"
mkdir store
for name in score rank; do
    torch-model-archiver --model-name $name --version 1.0 --handler "$here/handler.py" \
        --extra-files "$here/../common/pipeline.py" --export-path store
done
model() {
    echo "\"$1\": {\"1.0\": {\"defaultVersion\": true, \"marName\": \"$1.mar\", \"minWorkers\": 1, \"maxWorkers\": 1, \"batchSize\": $2, \"maxBatchDelay\": 1, \"responseTimeout\": 60}}"
}
cat >config.properties <<CONFIG
inference_address=http://127.0.0.1:$1
management_address=http://127.0.0.1:$2
metrics_address=http://127.0.0.1:$3
grpc_inference_port=$4
grpc_management_port=$5
load_models=score.mar,rank.mar
models={$(model score 64),$(model rank 4)}
job_queue_size=1000
async_logging=true
disable_system_metrics=true
CONFIG
# It would log every request.
cat >log4j2.xml <<'CONFIG'
<Configuration><Appenders><Console name="STDOUT"/></Appenders>
<Loggers><Root level="error"><AppenderRef ref="STDOUT"/></Root></Loggers></Configuration>
CONFIG
# Its launcher keeps the server's number in the temporary folder.
export TMPDIR=$PWD LOG_LOCATION=$PWD METRICS_LOCATION=$PWD
exec torchserve --start --foreground --model-store store --ts-config config.properties --log-config log4j2.xml \
    --disable-token-auth
