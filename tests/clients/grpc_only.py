"""Checks of what only gRPC has: streams, health, reflection, deadlines."""

import queue

import grpc
import numpy as np
import tritonclient.grpc as grpcclient
from checks import check, fails
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from tritonclient.grpc import service_pb2, service_pb2_grpc


def address(api):
    return api.client._channel._channel.target().decode().removeprefix("dns:///")


@check
def a_stream_of_requests(api):
    results = queue.Queue()
    api.client.start_stream(callback=lambda result, error: results.put((result, error)))
    try:
        for n in range(20):
            array = np.full((1, 3), n, np.float32)
            api.client.async_stream_infer("identity_fp32", [api.input("INPUT0", array)], request_id=str(n))
        api.client.async_stream_infer("nobody", [api.input("INPUT0", np.ones((1, 3), np.float32))], request_id="x")
        seen = set()
        for _ in range(21):
            result, error = results.get(timeout=20)
            if error is not None:
                assert "Request for unknown model" in str(error), error
                seen.add("x")
                continue
            n = result.get_response().id
            assert (result.as_numpy("OUTPUT0") == int(n)).all()
            seen.add(n)
        assert len(seen) == 21, seen
    finally:
        api.client.stop_stream()


@check
def a_client_with_other_options(api):
    keepalive = grpcclient.KeepAliveOptions(keepalive_time_ms=10_000, keepalive_permit_without_calls=True)
    with grpcclient.InferenceServerClient(address(api), keepalive_options=keepalive) as client:
        assert client.is_server_live()
    with grpcclient.InferenceServerClient(address(api), channel_args=[("grpc.max_receive_message_length", 1 << 20)]) as client:
        assert client.is_server_ready()


@check
def a_deadline_and_a_cancelled_call(api):
    inputs = [api.input("INPUT0", np.ones((1, 3), np.float32))]
    api.client.infer("identity_fp32", inputs, client_timeout=10)
    outcomes = queue.Queue()
    call = api.client.async_infer("identity_fp32", [api.input("INPUT0", np.ones((1, 1 << 20), np.float32))], lambda result, error: outcomes.put(error))
    call.cancel()
    error = outcomes.get(timeout=20)
    assert error is None or "CANCELLED" in str(error), error
    api.client.infer("identity_fp32", inputs)


@check
def standard_health(api):
    with grpc.insecure_channel(address(api)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        serving = health_pb2.HealthCheckResponse.SERVING
        assert stub.Check(health_pb2.HealthCheckRequest(), timeout=10).status == serving
        assert stub.Check(health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService"), timeout=10).status == serving
        error = fails(lambda: stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10))
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)
        assert next(watch).status == serving
        watch.cancel()


@check
def a_version_that_is_no_number(api):
    with grpc.insecure_channel(address(api)) as channel:
        request = service_pb2.ModelInferRequest(model_name="simple_int8", model_version="")
        for name, numbers in (("INPUT0", range(16)), ("INPUT1", [1] * 16)):
            contents = service_pb2.InferTensorContents(int_contents=numbers)
            request.inputs.add(name=name, datatype="INT8", shape=[1, 16], contents=contents)
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        answer = stub.ModelInfer(request, timeout=10)
        assert np.frombuffer(answer.raw_output_contents[0], np.int8).tolist() == list(range(1, 17)), answer
        request.model_version = "none"
        error = fails(lambda: stub.ModelInfer(request, timeout=10), "failed to get model version from specified version string 'none'")
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error


@check
def reflection(api):
    with grpc.insecure_channel(address(api)) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        services = set(database.get_services())
        assert {"inference.GRPCInferenceService", "grpc.health.v1.Health"} <= services, services
        file = database.FindFileContainingSymbol("inference.GRPCInferenceService")
        methods = {method.name for service in file.service for method in service.method}
        assert {"ModelInfer", "ModelStreamInfer", "RepositoryIndex", "ModelStatistics"} <= methods, methods
