"""What Triton runs in place of the ONNX models of this repository: its wheel has no ONNX Runtime.

One file for all of them: a model's name says what it does. scripts/make-oracle-models.py says the same as ONNX.
"""
import json
import os
import sys

# Triton's interpreter ignores this variable by itself.
sys.path[:0] = os.environ.get("PYTHONPATH", "").split(os.pathsep)

import numpy as np  # noqa: E402
import triton_python_backend_utils as pb_utils  # noqa: E402


def numbers(array):
    return np.array([int(item) for item in array.reshape(-1)], np.int64).reshape(array.shape)


def texts(array):
    return np.array([str(item).encode() for item in array.reshape(-1)], np.object_).reshape(array.shape)


def answers(name, version, arrays):
    if name in ("simple", "simple_int8"):
        return [arrays[0] + arrays[1], arrays[0] - arrays[1]]
    if name == "simple_string":
        first, second = numbers(arrays[0]), numbers(arrays[1])
        return [texts(first + second), texts(first - second)]
    if name == "versions":
        return [arrays[0] * np.int32(version)]
    return arrays


class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        self.name, self.version = args["model_name"], int(args["model_version"])
        self.inputs = [spec["name"] for spec in config["input"]]
        self.outputs = [spec["name"] for spec in config["output"]]
        # numpy has no such type: this one passes a tensor on without looking.
        self.opaque = config["input"][0]["data_type"] == "TYPE_BF16"

    def execute(self, requests):
        return [self.respond(request) for request in requests]

    def respond(self, request):
        tensors = [pb_utils.get_input_tensor_by_name(request, name) for name in self.inputs]
        if self.opaque:
            results = [pb_utils.Tensor.from_dlpack(name, tensor.to_dlpack()) for name, tensor in zip(self.outputs, tensors)]
        else:
            arrays = answers(self.name, self.version, [tensor.as_numpy() for tensor in tensors])
            results = [pb_utils.Tensor(name, array) for name, array in zip(self.outputs, arrays)]
        return pb_utils.InferenceResponse(results)
