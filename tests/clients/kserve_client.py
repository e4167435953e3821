"""KServe's own Python client, over both of its REST protocols and gRPC.

    kserve_client.py HTTP_ADDRESS GRPC_ADDRESS
"""

import asyncio
import sys

import numpy as np
from checks import check, run_async
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

RANGE = np.arange(16, dtype=np.int32).reshape(1, 16)
ONES = np.ones((1, 16), np.int32)


class Api:
    def __init__(self, http, grpc):
        self.url = f"http://{http}"
        self.v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
        self.v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
        self.grpc = InferenceGRPCClient(grpc)


def request(binary=False, **options):
    inputs = []
    for name, array in (("INPUT0", RANGE), ("INPUT1", ONES)):
        one = InferInput(name, list(array.shape), "INT32")
        one.set_data_from_numpy(array, binary_data=binary)
        inputs.append(one)
    return InferRequest("simple", inputs, **options)


def is_sum(response):
    outputs = {output.name: output.as_numpy() for output in response.outputs}
    assert np.array_equal(outputs["OUTPUT0"], RANGE + ONES), outputs
    assert np.array_equal(outputs["OUTPUT1"], RANGE - ONES), outputs


async def fails(call, *texts):
    try:
        await call
    except Exception as error:  # noqa: BLE001: whatever the client raises
        assert all(text in str(error) for text in texts), error
        return
    raise AssertionError("no error")


@check
async def v1_health_and_readiness(api):
    assert await api.v1.is_server_live(api.url) is True
    assert await api.v1.is_model_ready(api.url, "simple") is True
    await fails(api.v1.is_model_ready(api.url, "nobody"), "404")


@check
async def v1_rows_and_columns(api):
    rows = {"instances": [{"INPUT0": RANGE[0].tolist(), "INPUT1": ONES[0].tolist()}] * 3}
    answer = await api.v1.infer(api.url, rows, model_name="simple")
    assert [one["OUTPUT0"] for one in answer["predictions"]] == [(RANGE + ONES)[0].tolist()] * 3, answer
    answer = await api.v1.infer(api.url, {"inputs": {"INPUT0": RANGE.tolist(), "INPUT1": ONES.tolist()}}, model_name="simple")
    assert answer["outputs"]["OUTPUT1"] == (RANGE - ONES).tolist(), answer
    await fails(api.v1.infer(api.url, {"instances": [1]}, model_name="nobody"), "404")


@check
async def v2_health_and_readiness(api):
    assert await api.v2.is_server_live(api.url) is True
    assert await api.v2.is_server_ready(api.url) is True
    assert await api.v2.is_model_ready(api.url, "simple") is True
    assert await api.v2.is_model_ready(api.url, "nobody") is False


@check
async def v2_inference_in_json_and_in_binary(api):
    for binary in (False, True):
        response = await api.v2.infer(api.url, request(binary, request_id="7"), model_name="simple")
        is_sum(response)
        assert response.id == "7" and response.model_name == "simple", response
    wanted = [RequestedOutput(name, parameters={"binary_data": True}) for name in ("OUTPUT0", "OUTPUT1")]
    is_sum(await api.v2.infer(api.url, request(True, request_outputs=wanted), model_name="simple"))
    is_sum(await api.v2.infer(api.url, request(parameters={"binary_data_output": True}), model_name="simple"))
    await fails(api.v2.infer(api.url, request(), model_name="nobody"), "Request for unknown model", "404")


@check
async def grpc_health_and_inference(api):
    assert await api.grpc.is_server_live() and await api.grpc.is_server_ready()
    assert await api.grpc.is_model_ready("simple")
    is_sum(await api.grpc.infer(request()))
    is_sum(await api.grpc.infer(request(True, request_id="8")))
    is_sum(await api.grpc.infer(request(), headers=[("x-request-id", "9")], timeout=5))


async def main(http, grpc):
    api = Api(http, grpc)
    failed = await run_async("kserve", api)
    for client in (api.v1, api.v2, api.grpc):
        await client.close()
    return failed > 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(*sys.argv[1:])))
