"""tritonclient as it is installed, over HTTP or gRPC: what its example scripts do, and what users do with it.

    sync_client.py http|grpc ADDRESS
"""

import queue
import sys
import time

import ml_dtypes
import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
import tritonclient.utils as utils
import tritonclient.utils.shared_memory as shm
from checks import check, fails, run

RANGE = np.arange(16, dtype=np.int32).reshape(1, 16)
ONES = np.ones((1, 16), np.int32)


class Api:
    """One protocol: the client library's module, and a client."""

    def __init__(self, protocol, address):
        self.http = protocol == "http"
        self.module = httpclient if self.http else grpcclient
        self.client = self.module.InferenceServerClient(address, **({"concurrency": 4} if self.http else {}))

    def input(self, name, array, kind=None, **options):
        result = self.module.InferInput(name, array.shape, kind or utils.np_to_triton_dtype(array.dtype))
        result.set_data_from_numpy(array, **(options if self.http else {}))
        return result

    def simple(self, first=RANGE, second=ONES, **options):
        return [self.input("INPUT0", first, **options), self.input("INPUT1", second, **options)]

    def output(self, name, **options):
        if not self.http:
            options.pop("binary_data", None)
        return self.module.InferRequestedOutput(name, **options)

    def json(self, value):
        """What the HTTP client returns as it is, and the gRPC one as a message."""
        return value if self.http else json_of(value)


def json_of(message):
    from google.protobuf.json_format import MessageToDict

    return MessageToDict(message, preserving_proto_field_name=True)


def is_sum(result, first=RANGE, second=ONES):
    assert np.array_equal(result.as_numpy("OUTPUT0"), first + second)
    assert np.array_equal(result.as_numpy("OUTPUT1"), first - second)


def is_served(api, extension):
    """Whether the server says so; if not, there is nothing to check."""
    return extension in api.json(api.client.get_server_metadata())["extensions"]


@check
def health_and_metadata(api):
    assert api.client.is_server_live() and api.client.is_server_ready() and api.client.is_model_ready("simple")
    assert not api.client.is_model_ready("nobody")
    server = api.json(api.client.get_server_metadata())
    assert server["name"] == "triton" and "binary_tensor_data" in server["extensions"], server
    model = api.json(api.client.get_model_metadata("simple"))
    assert model["name"] == "simple" and model["versions"] == ["1"], model
    assert [one["name"] for one in model["inputs"]] == ["INPUT0", "INPUT1"], model
    fails(lambda: api.client.get_model_metadata("wrong_model_name"), "Request for unknown model")


@check
def model_configuration(api):
    config = api.json(api.client.get_model_config("simple"))
    config = config if api.http else config["config"]
    assert config["name"] == "simple" and config["max_batch_size"] == 8, config
    assert [one["dims"] for one in config["input"]] in ([[16], [16]], [["16"], ["16"]]), config
    as_json = {} if api.http else {"as_json": True}
    assert api.client.get_model_config("simple", **as_json)


@check
def inference(api):
    is_sum(api.client.infer("simple", api.simple()))
    is_sum(api.client.infer("simple", api.simple(), model_version="1", request_id="7", outputs=[api.output("OUTPUT0"), api.output("OUTPUT1")]))
    result = api.client.infer("simple", api.simple(), request_id="8", outputs=[api.output("OUTPUT1")])
    assert result.as_numpy("OUTPUT0") is None and np.array_equal(result.as_numpy("OUTPUT1"), RANGE - ONES)
    response = api.json(result.get_response())
    assert response["id"] == "8" and response["model_name"] == "simple" and response["model_version"] == "1", response


@check
def inference_in_json(api):
    outputs = [api.output("OUTPUT0", binary_data=False), api.output("OUTPUT1", binary_data=True)]
    is_sum(api.client.infer("simple", api.simple(binary_data=False), outputs=outputs))
    is_sum(api.client.infer("simple", [api.input("INPUT0", RANGE, binary_data=False), api.input("INPUT1", ONES, binary_data=True)], outputs=outputs))


@check
def the_same_objects_again(api):
    inputs, outputs = api.simple(), [api.output("OUTPUT0"), api.output("OUTPUT1")]
    for factor in range(1, 5):
        inputs[0].set_data_from_numpy(RANGE * factor)
        is_sum(api.client.infer("simple", inputs, outputs=outputs), RANGE * factor)


@check
def batches(api):
    for rows in (1, 3, 8):
        first, second = RANGE.repeat(rows, 0), ONES.repeat(rows, 0)
        is_sum(api.client.infer("simple", api.simple(first, second)), first, second)
    fails(lambda: api.client.infer("simple", api.simple(RANGE.repeat(9, 0), ONES.repeat(9, 0))), "batch-size must be <= 8")


@check
def options_of_a_request(api):
    options = {"priority": 1, "timeout": 5_000_000, "parameters": {"custom": "x", "count": 3, "flag": True}, "headers": {"x-custom": "y"}}
    is_sum(api.client.infer("simple", api.simple(), **options))


@check
def every_type(api):
    for kind in (np.uint8, np.uint16, np.uint32, np.uint64, np.int8, np.int16, np.int32, np.int64):
        limits = np.iinfo(kind)
        array = np.array([[limits.min, 7, limits.max]], kind)
        same(api, f"identity_{utils.np_to_triton_dtype(array.dtype).lower()}", array)
    for kind in (np.float16, np.float32, np.float64):
        limits = np.finfo(kind)
        array = np.array([[limits.min, limits.tiny, -0.0, np.inf, np.nan]], kind)
        same(api, f"identity_{utils.np_to_triton_dtype(array.dtype).lower()}", array)
    same(api, "identity_bool", np.array([[True, False, True]]))
    same(api, "identity_bf16", np.array([[1.0, -2.5, 0.0]], ml_dtypes.bfloat16))


def same(api, model, array):
    result = api.client.infer(model, [api.input("INPUT0", array)]).as_numpy("OUTPUT0")
    assert result.dtype == array.dtype and result.tobytes() == array.tobytes(), (model, array, result)


@check
def strings(api):
    numbers = np.array([[str(n).encode() for n in range(16)]], np.object_)
    ones = np.array([[b"1"] * 16], np.object_)
    for options in ({"binary_data": True}, {"binary_data": False}):
        result = api.client.infer("simple_string", api.simple(numbers, ones, **options))
        assert [int(one) for one in result.as_numpy("OUTPUT0")[0]] == list(range(1, 17))
    bytes_of_any_kind = np.array([["".encode(), "é".encode(), b"\x00\xff", b"x" * 70_000]], np.object_)
    result = api.client.infer("simple_identity", [api.input("INPUT0", bytes_of_any_kind)])
    assert list(result.as_numpy("OUTPUT0")[0]) == list(bytes_of_any_kind[0])


@check
def empty_and_large_tensors(api):
    same(api, "identity_fp32", np.zeros((1, 0), np.float32))
    same(api, "identity_fp32", np.random.default_rng(0).random((1, 1 << 20), np.float32))
    same(api, "free", np.zeros((0, 2), np.float32))


@check
def classification(api):
    array = np.array([[0.1, 0.4, 0.3, 0.2]], np.float32)
    result = api.client.infer("classes", [api.input("INPUT0", array)], outputs=[api.output("OUTPUT0", class_count=2)])
    assert [one.decode().split(":")[1:] for one in result.as_numpy("OUTPUT0")[0]] == [["1", "dog"], ["2", "fish"]]


@check
def an_ensemble_and_versions(api):
    result = api.client.infer("chain", [api.input("A", RANGE), api.input("B", ONES)])
    assert np.array_equal(result.as_numpy("TWICE_A"), 2 * ONES) or np.array_equal(result.as_numpy("TWICE_A"), 2 * RANGE)
    for version, factor in (("1", 1), ("3", 3), ("", 3)):
        result = api.client.infer("versions", [api.input("INPUT0", np.array([[5]], np.int32))], model_version=version)
        assert result.as_numpy("OUTPUT0")[0, 0] == 5 * factor
    fails(lambda: api.client.infer("versions", [api.input("INPUT0", np.array([[5]], np.int32))], model_version="2"), "version 2 is not found")


@check
def errors(api):
    error = fails(lambda: api.client.infer("nobody", api.simple()), "Request for unknown model")
    assert error.status() in ("404", "StatusCode.NOT_FOUND"), error.status()
    fails(lambda: api.client.infer("simple", api.simple()[:1]), "expected 2 inputs but got 1")
    fails(lambda: api.client.infer("simple", [api.input("INPUT0", RANGE), api.input("INPUT9", ONES)]), "unexpected inference input 'INPUT9'")
    fails(lambda: api.client.infer("simple", api.simple(second=ONES.astype(np.float32))), "data-type is 'FP32', but model 'simple' expects 'INT32'")
    fails(lambda: api.client.infer("simple", api.simple(second=np.ones((1, 8), np.int32))), "unexpected shape for input 'INPUT1'")
    fails(lambda: api.client.infer("simple", api.simple(), outputs=[api.output("OUTPUT9")]), "unexpected inference output 'OUTPUT9'")


@check
def compression(api):
    for kind in ("gzip", "deflate"):
        options = {"request_compression_algorithm": kind, "response_compression_algorithm": kind} if api.http else {"compression_algorithm": kind}
        is_sum(api.client.infer("simple", api.simple(), **options))
    if api.http:
        is_sum(api.client.infer("simple", api.simple(binary_data=False), request_compression_algorithm="gzip", response_compression_algorithm="deflate"))


@check
def many_at_a_time(api):
    if api.http:
        for request in [api.client.async_infer("simple", api.simple(RANGE * n), request_id=str(n)) for n in range(64)]:
            result = request.get_result()
            is_sum(result, RANGE * int(result.get_response()["id"]))
        return
    results = queue.Queue()
    for n in range(64):
        api.client.async_infer("simple", api.simple(RANGE * n), lambda result, error, n=n: results.put((n, result, error)))
    for _ in range(64):
        n, result, error = results.get(timeout=20)
        assert error is None, error
        is_sum(result, RANGE * n)


@check
def statistics(api):
    def inferences():
        stats = api.json(api.client.get_inference_statistics("simple"))["model_stats"]
        assert len(stats) == 1 and stats[0]["name"] == "simple" and stats[0]["version"] == "1", stats
        return int(stats[0]["inference_count"]), int(stats[0]["inference_stats"]["success"]["count"])

    rows, requests = inferences()
    api.client.infer("simple", api.simple(RANGE.repeat(3, 0), ONES.repeat(3, 0)))
    # A request counts when its answer is on the way.
    for _ in range(50):
        if (seen := inferences()) == (rows + 3, requests + 1):
            break
        time.sleep(0.02)
    assert seen == (rows + 3, requests + 1), (rows, requests, seen)
    names = {one["name"] for one in api.json(api.client.get_inference_statistics())["model_stats"]}
    assert {"simple", "versions"} <= names, names


@check
def model_control(api):
    models = api.json(api.client.get_model_repository_index())
    models = models if api.http else models["models"]
    assert {"name": "simple_int8", "version": "1", "state": "READY"}.items() <= next(one for one in models if one["name"] == "simple_int8").items()
    api.client.load_model("simple_int8")
    assert api.client.is_model_ready("simple_int8")
    fails(lambda: api.client.load_model("simple_int8", config='"parameters": {"config": {{"max_batch_size": "16"}}}'), "failed to load")
    api.client.load_model("simple_int8", config='{"max_batch_size":"16"}')
    config = api.json(api.client.get_model_config("simple_int8"))
    assert (config if api.http else config["config"])["max_batch_size"] == 16, config
    api.client.unload_model("simple_int8")
    assert not api.client.is_model_ready("simple_int8")
    fails(lambda: api.client.load_model("wrong_model_name"), "failed to load")
    api.client.load_model("simple_int8")
    wide = np.ones((8, 16), np.int8)
    assert (api.client.infer("simple_int8", api.simple(wide, wide)).as_numpy("OUTPUT0") == 2).all()


@check
def settings(api):
    def trace(**settings):
        return api.json(api.client.update_trace_settings(settings=settings))

    def rate(settings):
        return settings["trace_rate"] if api.http else settings["settings"]["trace_rate"]["value"][0]

    assert rate(trace(trace_rate="5")) == "5"
    assert rate(trace(trace_rate=None)) == rate(api.json(api.client.get_trace_settings())) != "5"
    assert api.client.get_trace_settings("simple")
    fails(lambda: api.client.get_trace_settings("nobody"), "nobody")

    def verbose(settings):
        return settings["log_verbose_level"] if api.http else settings["settings"]["log_verbose_level"].get("uint32_param", 0)

    assert verbose(api.json(api.client.update_log_settings({"log_verbose_level": 1}))) == 1
    assert verbose(api.json(api.client.update_log_settings({"log_verbose_level": 0}))) == 0
    assert verbose(api.json(api.client.get_log_settings())) == 0


@check
def shared_memory(api):
    if not is_served(api, "system_shared_memory"):
        print("tritonclient: the server has no shared memory: skipped")
        return
    size = RANGE.nbytes
    api.client.unregister_system_shared_memory()
    regions = {}
    try:
        for name in ("input", "output"):
            regions[name] = shm.create_shared_memory_region(f"sluice_{name}", f"/sluice_test_{name}", 2 * size)
            api.client.register_system_shared_memory(f"sluice_{name}", f"/sluice_test_{name}", 2 * size)
        status = api.json(api.client.get_system_shared_memory_status())
        names = [one["name"] for one in status] if api.http else list(status["regions"])
        assert set(names) == {"sluice_input", "sluice_output"}, status
        shm.set_shared_memory_region(regions["input"], [RANGE, ONES])
        inputs, outputs = [], []
        for index in (0, 1):
            one = api.module.InferInput(f"INPUT{index}", [1, 16], "INT32")
            one.set_shared_memory("sluice_input", size, offset=index * size)
            inputs.append(one)
            out = api.output(f"OUTPUT{index}", binary_data=True)
            out.set_shared_memory("sluice_output", size, offset=index * size)
            outputs.append(out)
        result = api.client.infer("simple", inputs, outputs=outputs)
        assert result.get_output("OUTPUT0") is not None
        assert np.array_equal(shm.get_contents_as_numpy(regions["output"], np.int32, [1, 16]), RANGE + ONES)
        assert np.array_equal(shm.get_contents_as_numpy(regions["output"], np.int32, [1, 16], size), RANGE - ONES)
        inputs[0].set_shared_memory("sluice_input", size, offset=2 * size)
        fails(lambda: api.client.infer("simple", inputs, outputs=outputs), "sluice_input")
        fails(lambda: api.client.register_system_shared_memory("sluice_input", "/sluice_test_input", 2 * size), "already")
    finally:
        api.client.unregister_system_shared_memory()
        for region in regions.values():
            shm.destroy_shared_memory_region(region)
    status = api.json(api.client.get_system_shared_memory_status())
    assert not (status if api.http else status.get("regions")), status
    assert not api.json(api.client.get_cuda_shared_memory_status())


@check
def shared_memory_of_texts(api):
    if not is_served(api, "system_shared_memory"):
        return
    words = np.array([["".encode(), "é".encode(), b"\x00\xff", b"x" * 5000]], np.object_)
    packed = utils.serialize_byte_tensor(words).item()
    region = shm.create_shared_memory_region("sluice_words", "/sluice_test_words", 3 * len(packed))
    try:
        api.client.register_system_shared_memory("sluice_words", "/sluice_test_words", 3 * len(packed))
        shm.set_shared_memory_region(region, [utils.serialize_byte_tensor(words)])
        one = api.module.InferInput("INPUT0", [1, 4], "BYTES")
        one.set_shared_memory("sluice_words", len(packed))
        out = api.output("OUTPUT0", binary_data=True)
        out.set_shared_memory("sluice_words", 2 * len(packed), offset=len(packed))
        api.client.infer("simple_identity", [one], outputs=[out])
        found = shm.get_contents_as_numpy(region, np.object_, [1, 4], len(packed))
        assert list(found.reshape(-1)) == list(words.reshape(-1)), found
        # An output beside it comes through the connection, and is found by its place.
        small = api.output("OUTPUT0", binary_data=True)
        small.set_shared_memory("sluice_words", RANGE.nbytes)
        result = api.client.infer("simple", api.simple(), outputs=[small, api.output("OUTPUT1", binary_data=True)])
        assert np.array_equal(result.as_numpy("OUTPUT1"), RANGE - ONES)
        assert np.array_equal(shm.get_contents_as_numpy(region, np.int32, [1, 16]), RANGE + ONES)
        small.set_shared_memory("sluice_words", RANGE.nbytes - 1)
        fails(lambda: api.client.infer("simple", api.simple(), outputs=[small]), "should be at least 64 bytes to hold the results")
        api.client.unregister_system_shared_memory("sluice_words")
        fails(lambda: api.client.infer("simple_identity", [one]), "Unable to find shared memory region: 'sluice_words'")
    finally:
        api.client.unregister_system_shared_memory()
        shm.destroy_shared_memory_region(region)


if __name__ == "__main__":
    protocol, address = sys.argv[1:]
    if protocol == "grpc":
        import grpc_only  # noqa: F401: adds its checks
    else:
        import http_only  # noqa: F401: adds its checks
    sys.exit(run(f"tritonclient.{protocol}", Api(protocol, address)) > 0)
