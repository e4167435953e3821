"""Ray Serve: one replica for each pipeline, with `serve.batch`."""

import signal
import sys
import threading

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

from pipeline import MAX_BATCH, PIPELINES, Pipeline


def deployment(name):
    # A replica takes 5 requests at a time by default: no batch would be larger.
    @serve.deployment(name=name, num_replicas=1, max_ongoing_requests=200, ray_actor_options={"num_cpus": 0.1})
    class Predict:
        def __init__(self):
            self.pipeline = Pipeline()

        @serve.batch(max_batch_size=MAX_BATCH[name], batch_wait_timeout_s=0)
        async def batch(self, bodies):
            return self.pipeline.batch_bytes(bodies)

        async def __call__(self, request: Request):
            return Response(await self.batch(await request.body()), media_type="application/json")

    return Predict


if __name__ == "__main__":
    ray.init(num_cpus=1, include_dashboard=False, logging_level="warning", log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])}, logging_config={"enable_access_log": False})
    for each in PIPELINES:
        serve.run(deployment(each).bind(), name=each, route_prefix=f"/{each}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    ray.shutdown()
