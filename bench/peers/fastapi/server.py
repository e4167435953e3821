"""FastAPI on uvicorn (uvloop, httptools), batching by hand."""

import sys

import uvicorn
from fastapi import FastAPI, Request, Response

from batcher import Batcher
from pipeline import MAX_BATCH, PIPELINES, Pipeline

app = FastAPI()
pipeline = Pipeline()


def serve(name):
    batcher = Batcher(pipeline.batch_bytes, MAX_BATCH[name])

    @app.post(f"/{name}")
    async def predict(request: Request):
        return Response(await batcher(await request.body()), media_type="application/json")


for each in PIPELINES:
    serve(each)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), loop="uvloop", http="httptools",
                log_level="warning", access_log=False)
