"""The benchmark's workload: bodies, hashing, models' inputs and answers. The definition; Rust follows it.

Three pipelines, each a `POST` of a small JSON body:

  score   40 text features                    1 row    mlp    sigmoid
  rank    40 text features + 64 candidates    64 rows  mlp    sigmoid, top k
  dlrm    40 text features + 64 candidates    64 rows  dlrm   sigmoid, top k

Body      {"id": "r17", "features": {"f00": "v123", ... 40}, "candidates": ["item_9", ... 64], "k": 10}
          (score has neither "candidates" nor "k")
Answer    score: {"id": "r17", "score": 0.1234}
          rank, dlrm: {"id": "r17", "ranking": [{"id": "item_9", "score": 0.93}, ... k]}, best first

Before    hash    32-bit FNV-1a over the UTF-8 bytes of "<name>=<value>"; a candidate is "cand=<id>"
          mlp     x[row, hash mod 1024] += 1 for the 40 features and, in rank, for that row's candidate
          dlrm    dense[row, 0..8]   = ln(1 + number) of f00..f07, whose values are decimal numbers
                  sparse[row, 0..32] = hash mod 20000 of f08..f39; sparse[row, 32] = the candidate's
After     sigmoid of the logit; by score, highest first, ties by the order in the body; the first k
"""

import math
import random

import numpy as np

WIDTH, SPARSE_ROWS = 1024, 20_000
FEATURES, DENSE, CANDIDATES, TOP = 40, 8, 64, 10
PIPELINES = {"score": "mlp", "rank": "mlp", "dlrm": "dlrm"}


def fnv1a(text):
    """32-bit FNV-1a of a text's UTF-8 bytes."""
    digest = 0x811C9DC5
    for byte in text.encode():
        digest = ((digest ^ byte) * 0x01000193) & 0xFFFFFFFF
    return digest


def bodies(pipeline, count, seed=7):
    """The request bodies of a pipeline; the same ones on every machine."""
    rnd, made = random.Random(f"{pipeline}-{seed}"), []
    for at in range(count):
        values = {}
        for field in range(FEATURES):
            number = int(rnd.paretovariate(1.1)) % 100_000
            plain = pipeline == "dlrm" and field < DENSE
            values[f"f{field:02d}"] = str(number) if plain else f"v{number}"
        body = {"id": f"r{at}", "features": values}
        if pipeline != "score":
            body["candidates"] = [f"item_{rnd.randrange(1_000_000)}" for _ in range(CANDIDATES)]
            body["k"] = TOP
        made.append(body)
    return made


def mlp_inputs(body):
    """The dense rows of score and rank."""
    base = np.zeros(WIDTH, dtype=np.float32)
    for name, value in body["features"].items():
        base[fnv1a(f"{name}={value}") % WIDTH] += 1.0
    if "candidates" not in body:
        return {"x": base.reshape(1, WIDTH)}
    rows = np.repeat(base[None, :], len(body["candidates"]), axis=0)
    for row, candidate in zip(rows, body["candidates"]):
        row[fnv1a(f"cand={candidate}") % WIDTH] += 1.0
    return {"x": rows}


def dlrm_inputs(body):
    """The numbers and the embedding rows of dlrm."""
    items = list(body["features"].items())
    dense = np.array([math.log1p(float(value)) for _, value in items[:DENSE]], dtype=np.float32)
    shared = [fnv1a(f"{name}={value}") % SPARSE_ROWS for name, value in items[DENSE:]]
    own = [fnv1a(f"cand={candidate}") % SPARSE_ROWS for candidate in body["candidates"]]
    sparse = np.array([[*shared, last] for last in own], dtype=np.int64)
    return {"dense": np.repeat(dense[None, :], len(own), axis=0), "sparse": sparse}


def inputs(pipeline, body):
    """The model's inputs for one body."""
    return dlrm_inputs(body) if pipeline == "dlrm" else mlp_inputs(body)


def answer(body, logits):
    """The answer to one body, from the model's logits for its rows."""
    scores = 1.0 / (1.0 + np.exp(-logits.reshape(-1).astype(np.float64)))
    if "candidates" not in body:
        return {"id": body["id"], "score": float(scores[0])}
    best = np.argsort(-scores, kind="stable")[: body["k"]]
    ranking = [{"id": body["candidates"][at], "score": float(scores[at])} for at in best]
    return {"id": body["id"], "ranking": ranking}


def difference(want, got, tolerance=2e-4):
    """None when an answer agrees with the golden one, else what differs. Near-ties may swap places."""
    if got.get("id") != want["id"]:
        return f"id {got.get('id')!r} for {want['id']!r}"
    if "score" in want:
        return None if abs(want["score"] - got["score"]) <= tolerance else f"score {got['score']} for {want['score']}"
    wanted, given = want["ranking"], got["ranking"]
    if len(wanted) != len(given):
        return f"{len(given)} ranked, wanted {len(wanted)}"
    for one, two in zip(wanted, given):
        if abs(one["score"] - two["score"]) > tolerance:
            return f"{two} where {one} belongs"
    known, least = {one["id"] for one in wanted}, wanted[-1]["score"]
    strange = [two for two in given if two["id"] not in known and abs(two["score"] - least) > tolerance]
    return f"not among the top: {strange}" if strange else None
