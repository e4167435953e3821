"""Starts MLServer: settings of the server, and of a model for each pipeline."""

import asyncio
import os
import sys

from mlserver import MLServer, ModelSettings, Settings
from mlserver.settings import ModelParameters
from runtime import Predict

from pipeline import MAX_BATCH, PIPELINES


async def main(port):
    # One core: a pool of processes would only add copies. gRPC and metrics of their own would take ports.
    server = MLServer(
        Settings(
            debug=False, host="127.0.0.1", http_port=port, grpc_port=int(os.environ["GRPC_PORT"]), parallel_workers=0,
            metrics_endpoint=None, gzip_enabled=False,
        )
    )
    models = [
        ModelSettings(
            name=name, implementation=Predict, max_batch_size=MAX_BATCH[name], max_batch_time=0.001,
            parameters=ModelParameters(version="1"),
        )
        for name in PIPELINES
    ]
    await server.start(models)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
