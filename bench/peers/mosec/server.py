"""Mosec: its Rust front batches requests and hands them to one Python process for each route."""

import sys

import orjson
from mosec import Runtime, Server, Worker

from pipeline import MAX_BATCH, PIPELINES, Pipeline


class Predict(Worker):
    def __init__(self):
        super().__init__()
        self.pipeline = Pipeline()

    def forward(self, data):
        return self.pipeline.batch(data)

    def deserialize(self, data):
        return orjson.loads(data)

    def serialize(self, data):
        return orjson.dumps(data)


class PredictRank(Predict):
    """A class of its own, as Mosec names its processes by class."""


WORKERS = dict(zip(PIPELINES, (Predict, PredictRank)))

if __name__ == "__main__":
    port = sys.argv[1]
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", port, "--log-level", "warning", "--timeout", "30000", "--wait", "0"]
    server = Server()
    # No wait (`--wait 0`): what has queued is a batch. It was faster than 1 ms at every load.
    server.register_runtime(
        {
            f"/{name}": [Runtime(WORKERS[name], max_batch_size=MAX_BATCH[name])]
            for name in PIPELINES
        }
    )
    server.run()
