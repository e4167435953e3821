"""The benchmark's pipelines as a user of a Python server would write them who has profiled.

Every peer that is written in Python calls this and nothing else: FNV-1a in C, orjson, NumPy and ONNX Runtime with
one thread (each server has one core). What is asked and answered is defined in bench/workload/workload.py.
"""

import os

import numpy as np
import onnxruntime
import orjson
from fnv_hash_fast import fnv1a_32

WIDTH = 1024

# What the models gain from: rows of `score` get cheaper up to 64, and `rank` brings 64 rows by itself and loses
# past four requests, when its input leaves the cache.
MAX_BATCH = {"score": 64, "rank": 4}
PIPELINES = tuple(MAX_BATCH)


def rows(body):
    """The model's input for one body: one row, or one for each candidate."""
    base = np.zeros(WIDTH, dtype=np.float32)
    for name, value in body["features"].items():
        base[fnv1a_32(f"{name}={value}".encode()) % WIDTH] += 1.0
    candidates = body.get("candidates")
    if candidates is None:
        return base.reshape(1, WIDTH)
    x = np.repeat(base[None, :], len(candidates), axis=0)
    x[np.arange(len(candidates)), [fnv1a_32(f"cand={name}".encode()) % WIDTH for name in candidates]] += 1.0
    return x


def answer(body, logits):
    """The answer to one body, from the logits of its rows."""
    scores = 1.0 / (1.0 + np.exp(-logits.reshape(-1).astype(np.float64)))
    candidates = body.get("candidates")
    if candidates is None:
        return {"id": body["id"], "score": float(scores[0])}
    best = np.argsort(-scores, kind="stable")[: body.get("k", 10)]
    return {"id": body["id"], "ranking": [{"id": candidates[at], "score": float(scores[at])} for at in best]}


class Pipeline:
    """One model, loaded; `score` and `rank` have the same one."""

    def __init__(self):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = os.path.join(os.environ["SLUICE_BENCH_DIR"], "models", "mlp.onnx")
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(self, x):
        """The model alone."""
        return self.session.run(None, {"x": x})[0]

    def batch(self, bodies):
        """Answers to several bodies, for which the model runs once."""
        inputs = [rows(body) for body in bodies]
        logits = self.run(inputs[0] if len(inputs) == 1 else np.concatenate(inputs))
        answers, at = [], 0
        for body, x in zip(bodies, inputs):
            answers.append(answer(body, logits[at : at + len(x)]))
            at += len(x)
        return answers

    def batch_bytes(self, bodies):
        """The same from JSON to JSON."""
        return [orjson.dumps(answer) for answer in self.batch([orjson.loads(body) for body in bodies])]
