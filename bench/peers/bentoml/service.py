"""BentoML with its adaptive batching, one worker."""

import bentoml

from pipeline import MAX_BATCH, Pipeline


@bentoml.service(workers=1, traffic={"timeout": 60, "max_concurrency": 1000}, metrics={"enabled": False},
                 logging={"access": {"enabled": False}})
class Predict:
    def __init__(self):
        self.pipeline = Pipeline()

    @bentoml.api(route="/score", batchable=True, max_batch_size=MAX_BATCH["score"], max_latency_ms=10_000)
    async def score(self, bodies: list[dict], /) -> list[dict]:
        return self.pipeline.batch(bodies)

    @bentoml.api(route="/rank", batchable=True, max_batch_size=MAX_BATCH["rank"], max_latency_ms=10_000)
    async def rank(self, bodies: list[dict], /) -> list[dict]:
        return self.pipeline.batch(bodies)
