"""Writes the benchmark's models, request bodies and golden answers into a directory.

    python make_models.py DIRECTORY

models/{mlp,dlrm}.onnx, and bodies/{score,rank,dlrm}.json: {"bodies": [64 bodies], "golden": [their answers]}.
Seeded: the models are the same bytes on every machine. The golden answers are ONNX Runtime's, one request
at a time; that the same requests merged into one batch agree with them is checked here.
"""

import json
import os
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import workload

OPSET, IR = 17, 8
BODIES = 64
EMBEDDING = 16


class Network:
    """A model under construction: nodes and weights, drawn from one seeded generator."""

    def __init__(self, name, seed):
        self.name, self.random = name, np.random.default_rng(seed)
        self.nodes, self.weights = [], []

    def weight(self, name, values):
        self.weights.append(numpy_helper.from_array(values, name))

    def node(self, kind, sources, target, **attributes):
        self.nodes.append(helper.make_node(kind, sources, [target], **attributes))

    def layer(self, source, target, wide, narrow, tag, relu=True):
        """A fully connected layer, with its activation unless it is the last."""
        scale = (2.0 / wide) ** 0.5
        self.weight(f"w_{tag}", (self.random.standard_normal((wide, narrow)) * scale).astype(np.float32))
        self.weight(f"b_{tag}", (self.random.standard_normal(narrow) * 0.01).astype(np.float32))
        self.node("Gemm", [source, f"w_{tag}", f"b_{tag}"], f"{target}_g" if relu else target)
        if relu:
            self.node("Relu", [f"{target}_g"], target)

    def save(self, directory, inputs):
        """Writes the model, with one output `logit` [n, 1]."""
        ins = [helper.make_tensor_value_info(name, kind, ["n", width]) for name, kind, width in inputs]
        outs = [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n", 1])]
        graph = helper.make_graph(self.nodes, self.name, ins, outs, self.weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR
        onnx.checker.check_model(model)
        onnx.save(model, os.path.join(directory, "models", self.name + ".onnx"))


def make_mlp(directory):
    """1024-256-64-1."""
    net = Network("mlp", seed=1)
    net.layer("x", "h1", workload.WIDTH, 256, "1")
    net.layer("h1", "h2", 256, 64, "2")
    net.layer("h2", "logit", 64, 1, "3", relu=False)
    net.save(directory, [("x", TensorProto.FLOAT, workload.WIDTH)])


def make_dlrm(directory):
    """Bottom 8-64-16; 33 embedding fields of 20,000 x 16; pairwise dot products; top 1024-512-256-1."""
    net = Network("dlrm", seed=2)
    fields = workload.FEATURES - workload.DENSE + 1
    net.layer("dense", "d1", workload.DENSE, 64, "d1")
    net.layer("d1", "d2", 64, EMBEDDING, "d2")
    table = net.random.standard_normal((fields * workload.SPARSE_ROWS, EMBEDDING)) * 0.25
    net.weight("emb", table.astype(np.float32))
    net.weight("off", (np.arange(fields, dtype=np.int64) * workload.SPARSE_ROWS)[None, :])
    net.node("Add", ["sparse", "off"], "rows")
    net.node("Gather", ["emb", "rows"], "e", axis=0)
    net.weight("ax1", np.array([1], dtype=np.int64))
    net.node("Unsqueeze", ["d2", "ax1"], "d2u")
    net.node("Concat", ["d2u", "e"], "z", axis=1)
    net.node("Transpose", ["z"], "zt", perm=[0, 2, 1])
    net.node("MatMul", ["z", "zt"], "dots")
    net.weight("shape", np.array([-1, (fields + 1) ** 2], dtype=np.int64))
    net.node("Reshape", ["dots", "shape"], "flat")
    rows, columns = np.tril_indices(fields + 1, -1)
    net.weight("tri", (rows * (fields + 1) + columns).astype(np.int64))
    net.node("Gather", ["flat", "tri"], "pairs", axis=1)
    net.node("Concat", ["d2", "pairs"], "t0", axis=1)
    net.layer("t0", "t1", EMBEDDING + len(rows), 1024, "t1")
    net.layer("t1", "t2", 1024, 512, "t2")
    net.layer("t2", "t3", 512, 256, "t3")
    net.layer("t3", "logit", 256, 1, "t4", relu=False)
    net.save(directory, [("dense", TensorProto.FLOAT, workload.DENSE), ("sparse", TensorProto.INT64, fields)])


def make_bodies(directory, pipeline, model):
    """Writes a pipeline's bodies and golden answers, after checking that batching does not change them."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    path = os.path.join(directory, "models", model + ".onnx")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    bodies = workload.bodies(pipeline, BODIES)
    fed = [workload.inputs(pipeline, body) for body in bodies]
    golden = [workload.answer(body, session.run(None, feed)[0]) for body, feed in zip(bodies, fed)]
    merged = {name: np.concatenate([feed[name] for feed in fed]) for name in fed[0]}
    parts = np.split(session.run(None, merged)[0], BODIES)
    for body, want, part in zip(bodies, golden, parts):
        wrong = workload.difference(want, workload.answer(body, part))
        if wrong:
            sys.exit(f"{pipeline} {body['id']}: batching changes the answer: {wrong}")
    with open(os.path.join(directory, "bodies", pipeline + ".json"), "w", encoding="utf-8") as file:
        json.dump({"bodies": bodies, "golden": golden}, file)


def main():
    directory = sys.argv[1]
    for part in ("models", "bodies"):
        os.makedirs(os.path.join(directory, part), exist_ok=True)
    make_mlp(directory)
    make_dlrm(directory)
    for pipeline, model in workload.PIPELINES.items():
        make_bodies(directory, pipeline, model)


if __name__ == "__main__":
    main()
