"""The three stages of Triton's ensembles, each a model of its Python backend; the first and the last have nothing to
gain from batches, the model has."""

import numpy as np
import orjson
import triton_python_backend_utils as pb_utils

import pipeline


def tensor(request, name):
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()


def response(name, value):
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, value)])


class Before:
    def execute(self, requests):
        return [self.one(tensor(request, "body").reshape(-1)[0]) for request in requests]

    def one(self, body):
        body = orjson.loads(body)
        x = pipeline.rows(body)
        return response("x", x if "candidates" not in body else x[None])


class Model:
    def initialize(self, args):
        self.pipeline = pipeline.Pipeline()

    def execute(self, requests):
        inputs = [tensor(request, "x") for request in requests]
        rows = [x.reshape(-1, pipeline.WIDTH) for x in inputs]
        logits, at, responses = self.pipeline.run(rows[0] if len(rows) == 1 else np.concatenate(rows)), 0, []
        for x, own in zip(inputs, rows):
            responses.append(response("logits", logits[at : at + len(own)].reshape(len(x), -1)))
            at += len(own)
        return responses


class After:
    def execute(self, requests):
        return [self.one(tensor(request, "body").reshape(-1)[0], tensor(request, "logits")) for request in requests]

    def one(self, body, logits):
        answer = pipeline.answer(orjson.loads(body), logits)
        return response("answer", np.array([[orjson.dumps(answer)]], dtype=np.object_))
