#!/usr/bin/env python3
"""Make the small ONNX models that the engine crate's tests run, with goldens.

    python3 scripts/make-engine-models.py [FOLDER]

FOLDER is gateway/engine/tests/fixtures unless given. Needs numpy, onnx and
onnxruntime. Seeded: the same versions of those give the same bytes, which are
committed so that the tests need no Python.

Writes NAME.onnx for every model, and goldens.json: for the models that have
them, inputs and outputs of a few batches as onnxruntime computed them, each
tensor as {name, dtype, shape, hex of the little-endian bytes}.
"""
import json
import os
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
V2_NAMES = {"float32": "FP32", "int64": "INT64", "int32": "INT32", "bool": "BOOL"}


class Builder:
    """Nodes and constants of one graph; every method returns a value's name."""

    def __init__(self, seed=0):
        self.random = np.random.default_rng(seed)
        self.nodes = []
        self.constants = []

    def constant(self, value):
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def integers(self, *values):
        return self.constant(np.array(values, np.int64))

    def weights(self, *shape):
        scale = np.float32(1.0 / np.sqrt(shape[0]))
        return self.constant(self.random.standard_normal(shape, dtype=np.float32) * scale)

    def node(self, kind, *inputs, out=None, **attributes):
        out = out or f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [out], f"{kind.lower()}{len(self.nodes)}", **attributes))
        return out

    def layer(self, x, wide, narrow, activation=None, out=None):
        y = self.node("MatMul", x, self.weights(wide, narrow))
        y = self.node("Add", y, self.weights(narrow), out=None if activation else out)
        return self.node(activation, y, out=out) if activation else y

    def model(self, name, inputs, outputs, opset=OPSET):
        info = [[helper.make_tensor_value_info(*value) for value in values] for values in (inputs, outputs)]
        graph = helper.make_graph(self.nodes, name, *info, self.constants)
        imports = [helper.make_opsetid("", opset)]
        return helper.make_model(graph, opset_imports=imports, ir_version=9, producer_name="make-engine-models")


FLOAT, INT64, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL


def mlp():
    """Dense layers and a softmax."""
    b = Builder(1)
    y = b.layer(b.layer("x", 16, 32, "Relu"), 32, 16, "Relu")
    b.node("Softmax", b.layer(y, 16, 10), axis=-1, out="probabilities")
    return b.model("mlp", [("x", FLOAT, ["n", 16])], [("probabilities", FLOAT, ["n", 10])])


TABLES, ROWS, WIDTH, DENSE = 5, 40, 8, 13
CTR = ([("dense", FLOAT, ["n", DENSE]), ("sparse", INT64, ["n", TABLES])], [("score", FLOAT, ["n", 1])])


def look_ups(b):
    columns = (b.node("Gather", "sparse", b.constant(np.int64(t)), axis=1) for t in range(TABLES))
    return [b.node("Gather", b.weights(ROWS, WIDTH), column, axis=0) for column in columns]


def ranker():
    """Table look-ups beside dense features, and a tower on top."""
    b = Builder(2)
    x = b.node("Concat", "dense", *look_ups(b), axis=1)
    y = b.layer(b.layer(x, DENSE + TABLES * WIDTH, 32, "Relu"), 32, 16, "Relu")
    b.layer(y, 16, 1, "Sigmoid", out="score")
    return b.model("ranker", *CTR)


def dlrm():
    """Look-ups that interact through their dot products."""
    b = Builder(3)
    bottom = b.layer("dense", DENSE, WIDTH, "Relu")
    fields = TABLES + 1
    x = b.node("Reshape", b.node("Concat", bottom, *look_ups(b), axis=1), b.integers(0, fields, WIDTH))
    dots = b.node("MatMul", x, b.node("Transpose", x, perm=[0, 2, 1]))
    flat = b.node("Reshape", dots, b.integers(0, fields * fields))
    pairs = [row * fields + column for row in range(fields) for column in range(row)]
    y = b.node("Concat", bottom, b.node("Gather", flat, b.integers(*pairs), axis=1), axis=1)
    b.layer(b.layer(y, WIDTH + len(pairs), 16, "Relu"), 16, 1, "Sigmoid", out="score")
    return b.model("dlrm", *CTR)


def encoder(width=16, heads=2, words=50, length_max=16):
    """Two transformer layers over token ids: two dimensions vary."""
    b = Builder(4)

    def norm(x):
        one, zero = b.constant(np.ones(width, np.float32)), b.constant(np.zeros(width, np.float32))
        return b.node("LayerNormalization", x, one, zero, axis=-1)

    length = b.node("Gather", b.node("Shape", "ids"), b.integers(1), axis=0)
    places = b.node("Slice", b.weights(length_max, width), b.integers(0), length, b.integers(0))
    x = norm(b.node("Add", b.node("Gather", b.weights(words, width), "ids", axis=0), places))
    split = b.integers(0, 0, heads, width // heads)
    for _ in range(2):
        q, k, v = (b.node("Reshape", b.layer(x, width, width), split) for _ in range(3))
        q, v = (b.node("Transpose", y, perm=[0, 2, 1, 3]) for y in (q, v))
        k = b.node("Transpose", k, perm=[0, 2, 3, 1])
        scale = b.constant(np.float32((width // heads) ** -0.5))
        seen = b.node("Softmax", b.node("Mul", b.node("MatMul", q, k), scale), axis=-1)
        y = b.node("Transpose", b.node("MatMul", seen, v), perm=[0, 2, 1, 3])
        x = norm(b.node("Add", x, b.layer(b.node("Reshape", y, b.integers(0, 0, width)), width, width)))
        x = norm(b.node("Add", x, b.layer(b.layer(x, width, 2 * width, "Relu"), 2 * width, width)))
    b.node("ReduceMean", x, axes=[1], keepdims=0, out="pooled")
    return b.model("encoder", [("ids", INT64, ["n", "length"])], [("pooled", FLOAT, ["n", width])])


def pair():
    """Two inputs and four outputs of three types, to see that none is mixed up."""
    b = Builder()
    b.node("Add", "a", "b", out="sum")
    b.node("Sub", "a", "b", out="difference")
    b.node("Greater", "a", "b", out="greater")
    b.node("ArgMax", "a", axis=1, keepdims=0, out="largest")
    outputs = [("largest", INT64, ["n"]), ("sum", FLOAT, ["n", 3]), ("greater", BOOL, ["n", 3]),
               ("difference", FLOAT, ["n", 3])]
    return b.model("pair", [("a", FLOAT, ["n", 3]), ("b", FLOAT, ["n", 3])], outputs)


def identity(kind):
    b = Builder()
    b.node("Identity", "x", out="y")
    return b.model("identity", [("x", kind, ["n", 2])], [("y", kind, ["n", 2])], opset=19)


def passthrough():
    """The output is the input itself: an engine may give back the same memory."""
    b = Builder()
    b.node("Neg", "x", out="y")
    return b.model("passthrough", [("x", FLOAT, ["n", 2])], [("x", FLOAT, ["n", 2]), ("y", FLOAT, ["n", 2])])


def shrinking():
    """Says that it keeps the rows, and sums them up instead."""
    b = Builder()
    b.node("ReduceSum", "x", b.integers(0), keepdims=1, out="y")
    return b.model("shrinking", [("x", FLOAT, ["n", 2])], [("y", FLOAT, ["n", 2])])


def hashing():
    """Multiplies ids before it looks them up: more than 32 bits for large ones."""
    b = Builder()
    product = b.node("Mul", "ids", b.constant(np.int64(1000)))
    b.node("Mod", product, b.constant(np.int64(997)), out="bucket")
    return b.model("hashing", [("ids", INT64, ["n"])], [("bucket", INT64, ["n"])])


def squaring():
    """Multiplies ids by themselves."""
    b = Builder()
    b.node("Mul", "ids", "ids", out="squares")
    return b.model("squaring", [("ids", INT64, ["n"])], [("squares", INT64, ["n"])])


def spinning():
    """Multiplies a matrix with itself `rounds` times: as slow as one likes."""
    inner = Builder()
    inner.node("Identity", "going", out="still_going")
    inner.node("MatMul", "state", "state", out="next_state")
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        inner.nodes, "body",
        [info("round", INT64, []), info("going", BOOL, []), info("state", FLOAT, ["n", 64])],
        [info("still_going", BOOL, []), info("next_state", FLOAT, ["n", 64])])
    b = Builder()
    b.node("Loop", "rounds", b.constant(np.array(True)), "x", out="y", body=body)
    return b.model("spinning", [("rounds", INT64, []), ("x", FLOAT, ["n", 64])], [("y", FLOAT, ["n", 64])])


def sequence():
    """Gives no tensor."""
    b = Builder()
    b.node("SequenceConstruct", "x", out="y")
    model = b.model("sequence", [("x", FLOAT, ["n", 2])], [])
    model.graph.output.append(helper.make_tensor_sequence_value_info("y", FLOAT, None))
    return model


def accumulator():
    """The sum of a sequence so far, which comes back as an input; and what the batch was."""
    b = Builder()
    one = b.constant(np.float32(1))
    kept = b.node("Mul", "STATE", b.node("Sub", one, "START"))
    b.node("Add", kept, "INPUT", out="SUM")
    b.node("Identity", "SUM", out="NEXT_STATE")
    b.node("Concat", "START", "READY", "END", axis=1, out="FLAGS")
    company = b.node("ReduceSum", "READY", b.integers(0), keepdims=1)
    b.node("Expand", company, b.node("Shape", "READY"), out="COMPANY")
    b.node("Identity", "CORRID", out="WHO")
    column = lambda name: (name, FLOAT, ["n", 1])
    inputs = [column(name) for name in ("START", "INPUT", "READY", "END", "STATE")] + [("CORRID", INT64, ["n", 1])]
    outputs = [column("NEXT_STATE"), column("SUM"), column("COMPANY"), ("FLAGS", FLOAT, ["n", 3]),
               ("WHO", INT64, ["n", 1])]
    return b.model("accumulator", inputs, outputs)


def history():
    """Everything that came in a sequence so far: a state that grows."""
    b = Builder()
    b.node("Concat", "PAST", "INPUT", axis=1, out="PRESENT")
    b.node("ReduceSum", "PRESENT", b.integers(1), keepdims=1, out="SUM")
    inputs = [("INPUT", FLOAT, ["n", 1]), ("PAST", FLOAT, ["n", "length"])]
    return b.model("history", inputs, [("SUM", FLOAT, ["n", 1]), ("PRESENT", FLOAT, ["n", "more"])])


KINDS = {"f16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16, "f32": FLOAT, "f64": TensorProto.DOUBLE,
         "i8": TensorProto.INT8, "i16": TensorProto.INT16, "i32": TensorProto.INT32, "i64": INT64,
         "u8": TensorProto.UINT8, "u16": TensorProto.UINT16, "u32": TensorProto.UINT32,
         "u64": TensorProto.UINT64, "bool": BOOL, "bytes": TensorProto.STRING, "f8": TensorProto.FLOAT8E4M3FN}
GOLDEN = {"mlp": mlp, "ranker": ranker, "dlrm": dlrm, "encoder": encoder, "pair": pair}
PLAIN = {"passthrough": passthrough, "shrinking": shrinking, "hashing": hashing, "squaring": squaring,
         "spinning": spinning, "sequence": sequence, "accumulator": accumulator, "history": history}
BATCHES = (1, 3, 8)


def feeds(name, batch):
    random = np.random.default_rng(100 + batch)
    normal = lambda width: random.standard_normal((batch, width), dtype=np.float32)
    if name == "mlp":
        return {"x": normal(16)}
    if name == "pair":
        return {"a": normal(3), "b": normal(3)}
    if name == "encoder":
        return {"ids": random.integers(0, 50, (batch, 5), np.int64)}
    return {"dense": normal(DENSE), "sparse": random.integers(0, ROWS, (batch, TABLES), np.int64)}


def written(tensors):
    return [{"name": name, "dtype": V2_NAMES[value.dtype.name], "shape": list(value.shape),
             "hex": np.ascontiguousarray(value).tobytes().hex()} for name, value in tensors.items()]


def goldens(name, path):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    cases = []
    for batch in BATCHES:
        inputs = feeds(name, batch)
        cases.append({"inputs": written(inputs), "outputs": written(dict(zip(names, session.run(names, inputs))))})
    return cases


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "../gateway/engine/tests/fixtures")
    os.makedirs(folder, exist_ok=True)
    models = {name: make() for name, make in (GOLDEN | PLAIN).items()}
    models |= {f"identity_{name}": identity(kind) for name, kind in KINDS.items()}
    for name, model in models.items():
        if name != "passthrough":  # the checker wants every output made by a node
            onnx.checker.check_model(model)
        onnx.save(model, os.path.join(folder, f"{name}.onnx"))
    cases = {name: goldens(name, os.path.join(folder, f"{name}.onnx")) for name in GOLDEN}
    with open(os.path.join(folder, "goldens.json"), "w", encoding="utf-8") as file:
        json.dump(cases, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
