"""TorchServe's handler: a batch of bodies, which it has parsed already, to their answers."""

import orjson

from pipeline import Pipeline

loaded = None


def handle(data, context):
    global loaded
    if loaded is None:
        loaded = Pipeline()
    if data is None:
        return None
    return [orjson.dumps(answer).decode() for answer in loaded.batch([request["body"] for request in data])]
