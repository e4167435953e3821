"""KServe's Python server with custom models over V1. Its own batcher is a sidecar for Kubernetes, so batching is by
hand, inside of `predict`."""

import sys

import kserve

from batcher import Batcher
from pipeline import MAX_BATCH, PIPELINES, Pipeline


class Predict(kserve.Model):
    def __init__(self, name, pipeline):
        super().__init__(name)
        self.batcher = Batcher(pipeline.batch, MAX_BATCH[name])
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        return await self.batcher(payload)


if __name__ == "__main__":
    pipeline = Pipeline()
    server = kserve.ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, enable_latency_logging=False)
    server.start([Predict(name, pipeline) for name in PIPELINES])
