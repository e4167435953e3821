"""What NVIDIA's example clients do with sequences and with models that answer several times.

    stateful_client.py HTTP_ADDRESS GRPC_ADDRESS

The models are those of scripts/make-client-models.py, and `repeat_int32`, which is a plugin.
"""

import asyncio
import queue
import sys
import time
import uuid

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
from checks import check, fails, run

VALUES = [11, 7, 5, 3, 2, 0, 1]


class Api:
    def __init__(self, http, grpc):
        self.http, self.grpc = httpclient.InferenceServerClient(http), grpcclient.InferenceServerClient(grpc)
        self.addresses = (http, grpc)

    def stream(self):
        return Stream(grpcclient.InferenceServerClient(self.addresses[1]))


class Stream:
    """A gRPC stream, and what came over it."""

    def __init__(self, client):
        self.client, self.results = client, queue.Queue()

    def __enter__(self):
        self.client.start_stream(callback=lambda result, error: self.results.put((result, error)))
        return self

    def __exit__(self, *_):
        self.client.stop_stream()
        self.client.close()

    def next(self):
        result, error = self.results.get(timeout=20)
        assert error is None, error
        return result


def number(module, value):
    tensor = module.InferInput("INPUT", [1, 1], "INT32")
    tensor.set_data_from_numpy(np.array([[value]], np.int32))
    return [tensor]


def requests(first, sign, sequence):
    """A whole sequence: each value, and how it is sent."""
    values = [first] + [sign * value for value in VALUES]
    for place, value in enumerate(values):
        yield value, {"sequence_id": sequence, "sequence_start": place == 0, "sequence_end": place == len(values) - 1}


def expected(model, first, sign, sequence):
    values = [first] + [sign * value for value in VALUES]
    if model == "simple_string_dyna_sequence":
        answers = [sum(values[: place + 1]) for place in range(len(values))]
    else:
        answers = [values[0] + 1, *values[1:]]
    if model != "simple_sequence":
        answers[-1] += int(sequence)
    return answers


def one_at_a_time(module, client):
    for model, first, sign, sequence in (
        ("simple_sequence", 0, 1, 1000),
        ("simple_sequence", 100, -1, 1001),
        ("simple_sequence", 20, -1, str(uuid.uuid4())),
        ("simple_dyna_sequence", 0, 1, 1000),
        ("simple_dyna_sequence", 100, -1, (1 << 31) - 200),
        ("simple_string_dyna_sequence", 20, -1, "1002"),
    ):
        answers = []
        for value, options in requests(first, sign, sequence):
            result = client.infer(model, number(module, value), **options)
            answers.append(int(result.as_numpy("OUTPUT")[0, 0]))
        assert answers == expected(model, first, sign, sequence), (model, answers)


@check
def sequences_over_http(api):
    one_at_a_time(httpclient, api.http)


@check
def sequences_over_grpc(api):
    one_at_a_time(grpcclient, api.grpc)


@check
def sequences_over_asyncio(api):
    async def whole(client, module, model, first, sign, sequence):
        answers = []
        for value, options in requests(first, sign, sequence):
            result = await client.infer(model, number(module, value), **options)
            answers.append(int(result.as_numpy("OUTPUT")[0, 0]))
        assert answers == expected(model, first, sign, sequence), (model, answers)

    async def side_by_side(module, address):
        async with module.InferenceServerClient(address) as client:
            ids = [(("simple_sequence", "simple_dyna_sequence")[n % 2], n, 4000 + n) for n in range(8)]
            ids += [("simple_string_dyna_sequence", n, str(5000 + n)) for n in range(4)]
            await asyncio.gather(*(whole(client, module, model, n, -1, sequence) for model, n, sequence in ids))

    for module, address in ((httpaio, api.addresses[0]), (grpcaio, api.addresses[1])):
        asyncio.run(side_by_side(module, address))


@check
def a_client_for_each_request(api):
    for module, address in ((httpclient, api.addresses[0]), (grpcclient, api.addresses[1])):
        for sequence in range(50):
            with module.InferenceServerClient(address) as client:
                result = client.infer("simple_sequence", number(module, 3), sequence_id=6000 + sequence, sequence_start=True, sequence_end=True)
                assert int(result.as_numpy("OUTPUT")[0, 0]) == 4


@check
def sequences_that_share_a_stream(api):
    sequences = [("simple_dyna_sequence", 10 * n, 1, 2000 + n) for n in range(6)]
    sequences += [("simple_string_dyna_sequence", n, -1, str(3000 + n)) for n in range(6)]
    with api.stream() as stream:
        for model, first, sign, sequence in sequences:
            for value, options in requests(first, sign, sequence):
                stream.client.async_stream_infer(model, number(grpcclient, value), request_id=str(sequence), **options)
        answers = {}
        for _ in range(len(sequences) * (len(VALUES) + 1)):
            result = stream.next()
            answers.setdefault(result.get_response().id, []).append(int(result.as_numpy("OUTPUT")[0, 0]))
    for model, first, sign, sequence in sequences:
        assert answers[str(sequence)] == expected(model, first, sign, sequence), (model, answers[str(sequence)])


@check
def a_sequence_that_nobody_began(api):
    for module, client in ((httpclient, api.http), (grpcclient, api.grpc)):
        fails(lambda: client.infer("simple_sequence", number(module, 1), sequence_id=77), "77", "START")
        fails(lambda: client.infer("simple_sequence", number(module, 1)), "correlation ID")


def pieces(count, delay=0):
    numbers = np.arange(100, 100 + count, dtype=np.int32)
    inputs = []
    for name, array in (("IN", numbers), ("DELAY", np.full(count, delay, np.uint32)), ("WAIT", np.zeros(1, np.uint32))):
        kind = "INT32" if name == "IN" else "UINT32"
        inputs.append(grpcclient.InferInput(name, array.shape, kind))
        inputs[-1].set_data_from_numpy(array)
    return inputs


@check
def one_request_has_many_answers(api):
    with api.stream() as stream:
        stream.client.async_stream_infer("repeat_int32", pieces(10), outputs=[grpcclient.InferRequestedOutput("OUT")], request_id="a")
        for place in range(10):
            result = stream.next()
            assert result.as_numpy("OUT").tolist() == [100 + place] and result.get_response().id == "a"
            assert result.as_numpy("IDX") is None
        # They come while the model works.
        start = time.monotonic()
        stream.client.async_stream_infer("repeat_int32", pieces(3, 300))
        stream.next()
        first = time.monotonic() - start
        for _ in range(2):
            stream.next()
        assert first < 0.6 < 0.9 <= time.monotonic() - start, first


@check
def the_last_answer_is_told_to_those_who_ask(api):
    def is_final(result):
        return result.get_response().parameters["triton_final_response"].bool_param

    with api.stream() as stream:
        stream.client.async_stream_infer("repeat_int32", pieces(3), enable_empty_final_response=True)
        finals = [is_final(stream.next()) for _ in range(3)]
        assert finals == [False] * 3, finals
        last = stream.next()
        assert is_final(last) and last.as_numpy("OUT") is None
        # A model with one answer says so in that answer.
        stream.client.async_stream_infer(
            "simple_sequence", number(grpcclient, 1), sequence_id=5, sequence_start=True, sequence_end=True, enable_empty_final_response=True
        )
        assert is_final(stream.next())
        stream.client.async_stream_infer("repeat_int32", pieces(1), request_id="then")
        assert stream.next().get_response().id == "then"


@check
def what_answers_in_parts_says_so(api):
    assert api.grpc.get_model_config("repeat_int32").config.model_transaction_policy.decoupled
    assert api.http.get_model_config("repeat_int32")["model_transaction_policy"]["decoupled"] is True
    error = fails(lambda: api.grpc.infer("repeat_int32", pieces(3)))
    assert "ModelStreamInfer" in str(error), error


@check
def a_stream_that_is_cancelled_leaves_nothing(api):
    client = grpcclient.InferenceServerClient(api.addresses[1])
    results = queue.Queue()
    client.start_stream(callback=lambda result, error: results.put((result, error)))
    client.async_stream_infer("repeat_int32", pieces(100, 100))
    assert results.get(timeout=20)[1] is None
    start = time.monotonic()
    client.stop_stream(cancel_requests=True)
    assert time.monotonic() - start < 5
    errors = [error for _, error in list(results.queue) if error is not None]
    assert all("cancelled" in str(error).lower() for error in errors), errors
    client.close()
    with api.stream() as stream:
        stream.client.async_stream_infer("repeat_int32", pieces(1))
        assert stream.next().as_numpy("OUT").tolist() == [100]


@check
def images_are_classified(api):
    config = api.http.get_model_config("colours")
    assert config["input"][0]["format"] == "FORMAT_NCHW" and config["max_batch_size"] == 4, config
    assert api.grpc.get_model_config("colours").config.input[0].format == 2
    assert api.http.get_model_metadata("colours")["inputs"][0]["shape"] == [-1, 3, 8, 8]
    images = np.zeros((2, 3, 8, 8), np.float32)
    images[0, 1], images[1, 2] = 1, 1
    for module, client in ((httpclient, api.http), (grpcclient, api.grpc)):
        image = module.InferInput("data_0", images.shape, "FP32")
        image.set_data_from_numpy(images)
        wanted = [module.InferRequestedOutput("fc6_1", class_count=1)]
        found = client.infer("colours", [image], outputs=wanted).as_numpy("fc6_1")
        assert [one[0].decode().split(":")[1:] for one in found] == [["1", "green"], ["2", "blue"]], found
    with api.stream() as stream:
        stream.client.async_stream_infer("colours", [image], outputs=wanted)
        assert np.array_equal(stream.next().as_numpy("fc6_1"), found)


@check
def an_ensemble_makes_classes_of_files(api):
    files = np.array([[b"0.25"], [b"-3"]])
    for module, client in ((httpclient, api.http), (grpcclient, api.grpc)):
        taken = module.InferInput("INPUT", files.shape, "BYTES")
        taken.set_data_from_numpy(files)
        for count, wanted in ((1, [["blue"], ["red"]]), (3, [["blue", "green", "red"], ["red", "green", "blue"]])):
            outputs = [module.InferRequestedOutput("OUTPUT", class_count=count)]
            found = client.infer("preprocess_inception_ensemble", [taken], outputs=outputs).as_numpy("OUTPUT")
            assert [[one.decode().split(":")[2] for one in row] for row in found] == wanted, found


if __name__ == "__main__":
    sys.exit(run("stateful", Api(*sys.argv[1:])) > 0)
