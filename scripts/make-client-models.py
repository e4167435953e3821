#!/usr/bin/env python3
"""Make the models that clients of Triton are tried with, beside those of the oracle.

    $(scripts/python-venv.sh tests/oracle/requirements.lock) scripts/make-client-models.py FOLDER

NVIDIA's example clients ask for them by these names and know what they answer: sequences with control inputs and
with a state, and a model for images. They are made anew at each run of scripts/test-clients.sh.
"""
import importlib.util
import pathlib
import sys

from onnx import TensorProto, helper

path = pathlib.Path(__file__).with_name("make-oracle-models.py")
spec = importlib.util.spec_from_file_location("oracle_models", path)
oracle = importlib.util.module_from_spec(spec)
spec.loader.exec_module(oracle)

NUMBER = [oracle.tensor("OUTPUT", "INT32", [1])]


def flag(name, kind):
    return (
        f'    {{ name: "{name}" control [ {{ kind: CONTROL_SEQUENCE_{kind} int32_false_true: [ 0, 1 ] }} ] }}'
    )


def corrid(kind):
    return (
        f'    {{ name: "CORRID" control [ {{ kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_{kind} }} ] }}'
    )


def batching(controls, more):
    controls = ",\n".join(controls)
    return f"sequence_batching {{\n  max_sequence_idle_microseconds: 5000000\n{more}  control_input [\n{controls}\n  ]\n}}\n"


def sequence_model(repository, name, nodes, hidden, more, constants=(), state=()):
    """A model whose file has inputs (controls, states) that its configuration does not show."""
    folder = repository.folder / name
    (folder / "1").mkdir(parents=True)
    inputs = [oracle.tensor("INPUT", "INT32", [1]), *hidden]
    outputs = [*NUMBER, *state]
    data = oracle.onnx_model(name, nodes, inputs, outputs, True, constants)
    (folder / "1" / "model.onnx").write_bytes(data)
    repository.config(name, 'backend: "onnxruntime"\nmax_batch_size: 8\n', inputs[:1], NUMBER, more)


def sequences(repository):
    start = oracle.tensor("START", "INT32", [1])
    ready = oracle.tensor("READY", "INT32", [1])
    end = oracle.tensor("END", "INT32", [1])
    # One more at the start of a sequence.
    nodes = [
        helper.make_node("Add", ["INPUT", "START"], ["sum"]),
        helper.make_node("Mul", ["sum", "READY"], ["OUTPUT"]),
    ]
    controls = [flag("START", "START"), flag("READY", "READY")]
    sequence_model(repository, "simple_sequence", nodes, [start, ready], batching(controls, ""))
    # And the sequence's id at its end.
    nodes = [
        helper.make_node("Cast", ["CORRID"], ["id"], to=TensorProto.INT32),
        helper.make_node("Mul", ["id", "END"], ["last"]),
        helper.make_node("Add", ["INPUT", "START"], ["first"]),
        helper.make_node("Add", ["first", "last"], ["sum"]),
        helper.make_node("Mul", ["sum", "READY"], ["OUTPUT"]),
    ]
    controls = [flag("START", "START"), flag("END", "END"), flag("READY", "READY")]
    oldest = "  oldest { max_candidate_sequences: 4 max_queue_delay_microseconds: 100 }\n"
    number = oracle.tensor("CORRID", "UINT64", [1])
    more = batching([*controls, corrid("UINT64")], oldest)
    sequence_model(repository, "simple_dyna_sequence", nodes, [start, end, ready, number], more)
    # The sum so far, kept in a state; the id is text.
    nodes = [
        helper.make_node("Cast", ["CORRID"], ["id"], to=TensorProto.INT32),
        helper.make_node("Mul", ["id", "END"], ["last"]),
        helper.make_node("Sub", ["one", "START"], ["later"]),
        helper.make_node("Mul", ["STATE", "later"], ["before"]),
        helper.make_node("Add", ["INPUT", "before"], ["NEXT_STATE"]),
        helper.make_node("Add", ["NEXT_STATE", "last"], ["sum"]),
        helper.make_node("Mul", ["sum", "READY"], ["OUTPUT"]),
    ]
    kept = '  state [ { input_name: "STATE" output_name: "NEXT_STATE" data_type: TYPE_INT32 dims: [ 1 ] } ]\n'
    more = batching([*controls, corrid("STRING")], oldest + kept)
    hidden = [start, end, ready, oracle.tensor("CORRID", "STRING", [1]), oracle.tensor("STATE", "INT32", [1])]
    one = helper.make_tensor("one", TensorProto.INT32, [1], [1])
    state = [oracle.tensor("NEXT_STATE", "INT32", [1])]
    sequence_model(repository, "simple_string_dyna_sequence", nodes, hidden, more, [one], state)


def images(repository):
    """Takes images of one size; its scores are the brightness of each colour."""
    nodes = [helper.make_node("ReduceMean", ["data_0"], ["scores"], axes=[2, 3], keepdims=0),
             helper.make_node("Softmax", ["scores"], ["fc6_1"], axis=1)]
    repository.model(
        "colours", nodes, [oracle.tensor("data_0", "FP32", [3, 8, 8])],
        [oracle.tensor("fc6_1", "FP32", [3], labels="labels.txt")], 4,
    )
    folder = repository.folder / "colours"
    (folder / "labels.txt").write_text("red\ngreen\nblue\n")
    # Clients scale images and order their axes by what the configuration says.
    config = (folder / "config.pbtxt").read_text()
    (folder / "config.pbtxt").write_text(config.replace("dims: [ 3, 8, 8 ]", "format: FORMAT_NCHW\n    dims: [ 3, 8, 8 ]"))


def ensemble(repository):
    """Makes images of files, and classes of the images: a file is a number as text, by which blue outshines red."""
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [1, 3, 8, 8], [colour / 2 for colour in range(3) for _ in range(64)])
    shape = helper.make_tensor("shape", TensorProto.INT64, [4], [-1, 1, 1, 1])
    nodes = [
        helper.make_node("Cast", ["FILE"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["number", "shape"], ["brightness"]),
        helper.make_node("Mul", ["brightness", "weights"], ["IMAGE"]),
    ]
    inputs, outputs = [oracle.tensor("FILE", "STRING", [1])], [oracle.tensor("IMAGE", "FP32", [3, 8, 8])]
    repository.model("read", nodes, inputs, outputs, 4, constants=lambda _: [shape, weights])
    folder = repository.folder / "preprocess_inception_ensemble"
    (folder / "1").mkdir(parents=True)
    steps = (("read", "FILE", "INPUT", "IMAGE", "image"), ("colours", "data_0", "image", "fc6_1", "OUTPUT"))
    steps = ",\n".join(
        f'  {{ model_name: "{model}" model_version: -1 input_map {{ key: "{takes}" value: "{of}" }} output_map {{ key: "{gives}" value: "{to}" }} }}'
        for model, takes, of, gives, to in steps
    )
    (folder / "config.pbtxt").write_text(
        'platform: "ensemble"\nmax_batch_size: 4\ninput [ { name: "INPUT" data_type: TYPE_STRING dims: [ 1 ] } ]\n'
        f'output [ {{ name: "OUTPUT" data_type: TYPE_FP32 dims: [ 3 ] }} ]\nensemble_scheduling {{ step [\n{steps}\n] }}\n'
    )


if __name__ == "__main__":
    there = oracle.Repository(pathlib.Path(sys.argv[1]))
    sequences(there)
    images(there)
    ensemble(there)
