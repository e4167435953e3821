#!/usr/bin/env python3
"""Make the model repository that Triton and the gateway are both asked about.

    $(scripts/python-venv.sh tests/oracle/requirements.lock) scripts/make-oracle-models.py [FOLDER]

FOLDER is tests/oracle/repository unless given. Each model is small, its answers are exact, and what it does is
said twice: here as ONNX, and in tests/oracle/triton_model.py as the Python that Triton runs instead. The files
are committed, so that no test needs to make them.
"""
import pathlib
import shutil
import sys

from onnx import TensorProto, checker, helper

OPSET = 17
# What an ONNX type is called in a model configuration.
TYPES = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BF16": TensorProto.BFLOAT16,
    "STRING": TensorProto.STRING,
}


def tensor(name, kind, dims, labels=None):
    return {"name": name, "kind": kind, "dims": dims, "labels": labels}


def value(spec, batch):
    dims = [f"{spec['name']}_{axis}" if dim < 0 else dim for axis, dim in enumerate(spec["dims"])]
    return helper.make_tensor_value_info(spec["name"], TYPES[spec["kind"]], (["batch"] if batch else []) + dims)


def onnx_model(name, nodes, inputs, outputs, batch, constants=()):
    graph = helper.make_graph(
        nodes, name, [value(spec, batch) for spec in inputs], [value(spec, batch) for spec in outputs], list(constants)
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="sluice")
    model.ir_version = 8
    checker.check_model(model, full_check=True)
    return model.SerializeToString(deterministic=True)


def section(kind, specs):
    def one(spec):
        label = f'\n    label_filename: "{spec["labels"]}"' if spec["labels"] else ""
        dims = ", ".join(str(dim) for dim in spec["dims"])
        return f'  {{\n    name: "{spec["name"]}"\n    data_type: TYPE_{spec["kind"]}\n    dims: [ {dims} ]{label}\n  }}'

    return f"{kind} [\n" + ",\n".join(one(spec) for spec in specs) + "\n]\n"


class Repository:
    def __init__(self, folder):
        self.folder = folder

    def model(self, name, nodes, inputs, outputs, max_batch=8, more="", versions=(1,), constants=lambda version: ()):
        folder = self.folder / name
        for version in versions:
            (folder / str(version)).mkdir(parents=True)
            data = onnx_model(name, nodes, inputs, outputs, max_batch > 0, constants(version))
            (folder / str(version) / "model.onnx").write_bytes(data)
        self.config(name, f'backend: "onnxruntime"\nmax_batch_size: {max_batch}\n', inputs, outputs, more)

    def config(self, name, head, inputs, outputs, more):
        folder = self.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        text = f'name: "{name}"\n{head}' + section("input", inputs) + section("output", outputs) + more
        (folder / "config.pbtxt").write_text(text)

    def identity(self, name, kind, dims, max_batch=8, more="", names=("INPUT0", "OUTPUT0"), labels=None):
        given, taken = names
        node = helper.make_node("Identity", [given], [taken])
        self.model(name, [node], [tensor(given, kind, dims)], [tensor(taken, kind, dims, labels)], max_batch, more)


def add_and_subtract(repository, name, kind, dims):
    nodes = [
        helper.make_node("Add", ["INPUT0", "INPUT1"], ["OUTPUT0"]),
        helper.make_node("Sub", ["INPUT0", "INPUT1"], ["OUTPUT1"]),
    ]
    if kind != "INT32":
        # Numbers as text, both ways; and ONNX Runtime adds no small integers.
        nodes = [
            helper.make_node("Cast", ["INPUT0"], ["number0"], to=TensorProto.INT64),
            helper.make_node("Cast", ["INPUT1"], ["number1"], to=TensorProto.INT64),
            helper.make_node("Add", ["number0", "number1"], ["sum"]),
            helper.make_node("Sub", ["number0", "number1"], ["difference"]),
            helper.make_node("Cast", ["sum"], ["OUTPUT0"], to=TYPES[kind]),
            helper.make_node("Cast", ["difference"], ["OUTPUT1"], to=TYPES[kind]),
        ]
    inputs = [tensor("INPUT0", kind, dims), tensor("INPUT1", kind, dims)]
    outputs = [tensor("OUTPUT0", kind, dims), tensor("OUTPUT1", kind, dims)]
    repository.model(name, nodes, inputs, outputs)


def main(folder):
    shutil.rmtree(folder, ignore_errors=True)
    repository = Repository(folder)
    add_and_subtract(repository, "simple", "INT32", [16])
    add_and_subtract(repository, "simple_int8", "INT8", [16])
    add_and_subtract(repository, "simple_string", "STRING", [16])
    repository.identity("simple_identity", "STRING", [-1])
    for kind in TYPES:
        if kind != "STRING":
            repository.identity(f"identity_{kind.lower()}", kind, [-1])
    # No batch dimension: shapes are what they are.
    repository.identity("nobatch", "FP32", [2, 3], max_batch=0)
    repository.identity("free", "FP32", [-1, 2], max_batch=0)
    repository.identity("bytes_nobatch", "STRING", [1], max_batch=0)
    # Two variable dimensions, and a batcher that waits for others.
    repository.identity(
        "batched", "FP32", [-1, -1], max_batch=4,
        more="dynamic_batching {\n  preferred_batch_size: [ 2, 4 ]\n  max_queue_delay_microseconds: 500\n}\n",
    )
    repository.identity("classes", "FP32", [4], labels="labels.txt")
    (folder / "classes" / "labels.txt").write_text("cat\ndog\nfish\n")
    repository.identity("generate", "STRING", [1], names=("text_input", "text_output"))
    versions = [helper.make_node("Mul", ["INPUT0", "factor"], ["OUTPUT0"])]
    repository.model(
        "versions", versions, [tensor("INPUT0", "INT32", [1])], [tensor("OUTPUT0", "INT32", [1])], versions=(1, 2, 3),
        more="version_policy: { specific { versions: [ 1, 3 ] } }\n",
        constants=lambda version: [helper.make_tensor("factor", TensorProto.INT32, [1], [version])],
    )
    # (a + b) + (a - b), and the difference of those: 2a and 2b.
    repository.config(
        "chain", 'platform: "ensemble"\nmax_batch_size: 8\n',
        [tensor("A", "INT32", [16]), tensor("B", "INT32", [16])],
        [tensor("TWICE_A", "INT32", [16]), tensor("TWICE_B", "INT32", [16])],
        "ensemble_scheduling {\n  step [\n"
        '    {\n      model_name: "simple"\n      model_version: -1\n'
        '      input_map { key: "INPUT0" value: "A" }\n      input_map { key: "INPUT1" value: "B" }\n'
        '      output_map { key: "OUTPUT0" value: "sum" }\n      output_map { key: "OUTPUT1" value: "difference" }\n    },\n'
        '    {\n      model_name: "simple"\n      model_version: -1\n'
        '      input_map { key: "INPUT0" value: "sum" }\n      input_map { key: "INPUT1" value: "difference" }\n'
        '      output_map { key: "OUTPUT0" value: "TWICE_A" }\n      output_map { key: "OUTPUT1" value: "TWICE_B" }\n    }\n'
        "  ]\n}\n",
    )
    # Triton wants a folder for a version, though an ensemble has no file.
    (folder / "chain" / "1").mkdir()
    (folder / "chain" / "1" / ".gitkeep").write_text("")


if __name__ == "__main__":
    default = pathlib.Path(__file__).parent.parent / "tests" / "oracle" / "repository"
    main(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default)
