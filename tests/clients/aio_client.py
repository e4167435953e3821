"""tritonclient's asyncio clients.

    aio_client.py http|grpc ADDRESS
"""

import asyncio
import sys

import numpy as np
import tritonclient.grpc.aio as grpcclient
import tritonclient.http.aio as httpclient
import tritonclient.utils as utils
import tritonclient.utils.shared_memory as shm
from checks import check, run_async

RANGE = np.arange(16, dtype=np.int32).reshape(1, 16)
ONES = np.ones((1, 16), np.int32)


class Api:
    def __init__(self, protocol, address):
        self.http = protocol == "http"
        self.module = httpclient if self.http else grpcclient
        self.client = self.module.InferenceServerClient(address)

    def input(self, name, array):
        result = self.module.InferInput(name, array.shape, utils.np_to_triton_dtype(array.dtype))
        result.set_data_from_numpy(array)
        return result

    def simple(self, first=RANGE):
        return [self.input("INPUT0", first), self.input("INPUT1", ONES)]


@check
async def health_metadata_and_configuration(api):
    assert await api.client.is_server_live() and await api.client.is_server_ready() and await api.client.is_model_ready("simple")
    assert await api.client.get_server_metadata() and await api.client.get_model_metadata("simple")
    assert await api.client.get_model_config("simple") and await api.client.get_inference_statistics("simple")
    assert await api.client.get_model_repository_index()
    assert await api.client.get_trace_settings() and await api.client.get_log_settings()


@check
async def inference_many_at_a_time(api):
    async def one(n):
        result = await api.client.infer("simple", api.simple(RANGE * n), request_id=str(n))
        assert np.array_equal(result.as_numpy("OUTPUT0"), RANGE * n + ONES)
        assert np.array_equal(result.as_numpy("OUTPUT1"), RANGE * n - ONES)

    await asyncio.gather(*(one(n) for n in range(64)))


@check
async def strings_and_compression(api):
    words = np.array([[b"", "é".encode(), b"\xff"]], np.object_)
    for kind in ("gzip", "deflate"):
        options = {"request_compression_algorithm": kind, "response_compression_algorithm": kind} if api.http else {"compression_algorithm": kind}
        result = await api.client.infer("simple_identity", [api.input("INPUT0", words)], **options)
        assert list(result.as_numpy("OUTPUT0")[0]) == list(words[0])


@check
async def shared_memory(api):
    # Forgetting what was never registered is no error, of no kind of memory.
    await api.client.unregister_system_shared_memory()
    await api.client.unregister_cuda_shared_memory()
    half, name = RANGE.nbytes, f"/sluice_aio_{'http' if api.http else 'grpc'}"
    region = shm.create_shared_memory_region("both", name, 4 * half)
    try:
        shm.set_shared_memory_region(region, [RANGE, ONES])
        await api.client.register_system_shared_memory("both", name, 4 * half)
        inputs, outputs = [], []
        for place in range(2):
            inputs.append(api.module.InferInput(f"INPUT{place}", [1, 16], "INT32"))
            inputs[-1].set_shared_memory("both", half, offset=place * half)
            outputs.append(api.module.InferRequestedOutput(f"OUTPUT{place}"))
            outputs[-1].set_shared_memory("both", half, offset=(2 + place) * half)
        result = await api.client.infer("simple", inputs, outputs=outputs)
        assert result.get_output("OUTPUT0") is not None
        for place, wanted in enumerate((RANGE + ONES, RANGE - ONES)):
            assert np.array_equal(shm.get_contents_as_numpy(region, np.int32, [1, 16], offset=(2 + place) * half), wanted)
        assert "both" in str(await api.client.get_system_shared_memory_status())
        await api.client.unregister_system_shared_memory()
    finally:
        shm.destroy_shared_memory_region(region)


@check
async def errors(api):
    try:
        await api.client.infer("nobody", api.simple())
    except utils.InferenceServerException as error:
        assert "Request for unknown model" in str(error), error
    else:
        raise AssertionError("no error")


@check
async def model_control(api):
    await api.client.unload_model("simple_int8")
    assert not await api.client.is_model_ready("simple_int8")
    await api.client.load_model("simple_int8")
    assert await api.client.is_model_ready("simple_int8")


@check
async def a_stream(api):
    if api.http:
        return

    async def requests():
        for n in range(10):
            yield {"model_name": "simple", "inputs": api.simple(RANGE * n), "request_id": str(n)}

    seen = set()
    async for result, error in api.client.stream_infer(requests()):
        assert error is None, error
        n = int(result.get_response().id)
        assert np.array_equal(result.as_numpy("OUTPUT0"), RANGE * n + ONES)
        seen.add(n)
    assert seen == set(range(10)), seen


async def main(protocol, address):
    api = Api(protocol, address)
    failed = await run_async(f"tritonclient.{protocol}.aio", api)
    await api.client.close()
    return failed > 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
