"""The gRPC requests that Triton and the gateway are asked."""

import json
import struct

from http_cases import EDGES, ONES, RANGE, WIDER
from tritonclient.grpc import service_pb2 as pb
from wire import strings

SERVICE = "inference.GRPCInferenceService"
CONTENTS = {
    "BOOL": "bool_contents", "INT8": "int_contents", "INT16": "int_contents", "INT32": "int_contents", "INT64": "int64_contents",
    "UINT8": "uint_contents", "UINT16": "uint_contents", "UINT32": "uint_contents", "UINT64": "uint64_contents",
    "FP32": "fp32_contents", "FP64": "fp64_contents", "BYTES": "bytes_contents",
}


def case(name, method, request, metadata=()):
    requests = request if isinstance(request, list) else [request]
    return {"name": name, "method": method, "requests": [bytes(one) if isinstance(one, bytes) else one.SerializeToString(deterministic=True) for one in requests], "metadata": list(metadata)}


def tensor(name, kind, shape, values=None):
    result = pb.ModelInferRequest.InferInputTensor(name=name, datatype=kind, shape=shape)
    if values is not None:
        getattr(result.contents, CONTENTS[kind]).extend(values)
    return result


def request(model="simple", version="", inputs=None, raw=(), outputs=(), **more):
    if inputs is None:
        inputs = [tensor("INPUT0", "INT32", [1, 16], None if raw else RANGE), tensor("INPUT1", "INT32", [1, 16], None if raw else ONES)]
    outputs = [one if not isinstance(one, str) else pb.ModelInferRequest.InferRequestedOutputTensor(name=one) for one in outputs]
    return pb.ModelInferRequest(model_name=model, model_version=version, inputs=inputs, outputs=outputs, raw_input_contents=list(raw), **more)


def infer(name, *arguments, metadata=(), **more):
    return case(name, "ModelInfer", request(*arguments, **more), metadata)


PACKED = (struct.pack("<16i", *RANGE), struct.pack("<16i", *ONES))


def servers():
    yield case("live", "ServerLive", pb.ServerLiveRequest())
    yield case("ready", "ServerReady", pb.ServerReadyRequest())
    yield case("metadata", "ServerMetadata", pb.ServerMetadataRequest())
    yield case("method.unknown", "Nothing", pb.ServerLiveRequest())
    for model in ("simple", "simple_string", "nobatch", "batched", "classes", "versions", "chain", "identity_bf16", "nobody", ""):
        yield case(f"model.ready {model}", "ModelReady", pb.ModelReadyRequest(name=model))
        yield case(f"model.metadata {model}", "ModelMetadata", pb.ModelMetadataRequest(name=model))
        yield case(f"model.config {model}", "ModelConfig", pb.ModelConfigRequest(name=model))
        yield case(f"model.statistics {model}", "ModelStatistics", pb.ModelStatisticsRequest(name=model))
    for version in ("1", "2", "3", "9", "x", "-1"):
        yield case(f"version.ready {version}", "ModelReady", pb.ModelReadyRequest(name="versions", version=version))
        yield case(f"version.metadata {version}", "ModelMetadata", pb.ModelMetadataRequest(name="versions", version=version))
        yield infer(f"version.infer {version}", "versions", version, [tensor("INPUT0", "INT32", [1, 1], [5])])


def good():
    yield infer("infer")
    yield infer("infer.raw", raw=PACKED)
    yield infer("infer.id", id="request 7")
    yield infer("infer.outputs", outputs=["OUTPUT1", "OUTPUT0"])
    yield infer("infer.output.one", raw=PACKED, outputs=["OUTPUT1"])
    yield infer("infer.order", inputs=[tensor("INPUT1", "INT32", [1, 16], ONES), tensor("INPUT0", "INT32", [1, 16], RANGE)])
    yield infer("infer.batch", inputs=[tensor("INPUT0", "INT32", [8, 16], RANGE * 8), tensor("INPUT1", "INT32", [8, 16], ONES * 8)])
    yield infer("infer.parameters", parameters={"custom": pb.InferParameter(string_param="x"), "flag": pb.InferParameter(bool_param=True), "count": pb.InferParameter(int64_param=3)})
    yield infer("infer.priority", parameters={"priority": pb.InferParameter(int64_param=1)})
    yield infer("infer.priority.uint64", parameters={"priority": pb.InferParameter(uint64_param=1)})
    yield infer("infer.timeout", parameters={"timeout": pb.InferParameter(int64_param=1_000_000)})
    yield infer("infer.chain", "chain", inputs=[tensor("A", "INT32", [1, 16], RANGE), tensor("B", "INT32", [1, 16], ONES)])
    yield infer("infer.nobatch", "nobatch", inputs=[tensor("INPUT0", "FP32", [2, 3], [1, 2, 3, 4, 5, 6])])
    yield infer("infer.string", "simple_string", inputs=[tensor("INPUT0", "BYTES", [1, 16], [b"%d" % n for n in RANGE]), tensor("INPUT1", "BYTES", [1, 16], [b"1"] * 16)])
    yield infer("infer.bytes.raw", "simple_identity", inputs=[tensor("INPUT0", "BYTES", [1, 3])], raw=[strings(b"", b"abc", b"\xff\x00")])
    yield infer("infer.bytes.contents", "simple_identity", inputs=[tensor("INPUT0", "BYTES", [1, 2], [b"", b"\xff"])])
    yield infer("infer.empty", "identity_fp32", inputs=[tensor("INPUT0", "FP32", [1, 0])], raw=[b""])
    for kind, (values, form) in EDGES.items():
        model = f"identity_{kind.lower()}"
        yield infer(f"type.{kind}.raw", model, inputs=[tensor("INPUT0", kind, [1, 3])], raw=[struct.pack(form, *values)])
        if kind in CONTENTS:
            yield infer(f"type.{kind}.contents", model, inputs=[tensor("INPUT0", kind, [1, 3], values)])
    for count in (1, 3, 0, -1):
        output = pb.ModelInferRequest.InferRequestedOutputTensor(name="OUTPUT0", parameters={"classification": pb.InferParameter(int64_param=count)})
        yield infer(f"classification {count}", "classes", inputs=[tensor("INPUT0", "FP32", [1, 4], [0.5, 2, 1, 0.25])], outputs=[output])
    text = pb.ModelInferRequest.InferRequestedOutputTensor(name="OUTPUT0", parameters={"classification": pb.InferParameter(string_param="1")})
    yield infer("classification text", "classes", inputs=[tensor("INPUT0", "FP32", [1, 4], [0.5, 2, 1, 0.25])], outputs=[text])


def wrong():
    first, second = tensor("INPUT0", "INT32", [1, 16], RANGE), tensor("INPUT1", "INT32", [1, 16], ONES)
    yield infer("wrong.model", "nobody")
    yield infer("wrong.model.empty", "")
    yield infer("wrong.inputs.none", inputs=[])
    yield infer("wrong.inputs.one", inputs=[first])
    yield infer("wrong.inputs.third", inputs=[first, second, tensor("INPUT2", "INT32", [1, 16], ONES)])
    yield infer("wrong.inputs.twice", inputs=[first, first])
    yield infer("wrong.inputs.name", inputs=[first, tensor("INPUT9", "INT32", [1, 16], ONES)])
    yield infer("wrong.inputs.unnamed", inputs=[first, tensor("", "INT32", [1, 16], ONES)])
    yield infer("wrong.output.name", outputs=["OUTPUT9"])
    yield infer("wrong.output.twice", outputs=["OUTPUT0", "OUTPUT0"])
    yield infer("wrong.datatype", inputs=[first, tensor("INPUT1", "FP32", [1, 16], ONES)])
    unknown = pb.ModelInferRequest.InferInputTensor(name="INPUT1", datatype="INT33", shape=[1, 16])
    unknown.contents.int_contents.extend(ONES)
    yield infer("wrong.datatype.unknown", inputs=[first, unknown])
    other = pb.ModelInferRequest.InferInputTensor(name="INPUT1", datatype="INT32", shape=[1, 16])
    other.contents.fp32_contents.extend(ONES)
    yield infer("wrong.contents.other_field", inputs=[first, other])
    both = pb.ModelInferRequest.InferInputTensor(name="INPUT1", datatype="INT32", shape=[1, 16])
    both.contents.int_contents.extend(ONES)
    both.contents.int64_contents.extend(ONES)
    yield infer("wrong.contents.two_fields", inputs=[first, both])
    yield infer("wrong.contents.none", inputs=[first, tensor("INPUT1", "INT32", [1, 16])])
    yield infer("wrong.contents.few", inputs=[first, tensor("INPUT1", "INT32", [1, 16], ONES[:-1])])
    yield infer("wrong.contents.many", inputs=[first, tensor("INPUT1", "INT32", [1, 16], ONES + [1])])
    yield infer("wrong.contents.unfit", "identity_int8", inputs=[tensor("INPUT0", "INT8", [1, 1], [300])])
    for name, shape in (("flat", [16]), ("scalar", []), ("other", [1, 8]), ("negative", [-1, 16]), ("both_negative", [-1, -16]), ("zero", [0, 16]), ("huge", [2**62, 16]), ("product_overflow", [2**40, 2**40])):
        yield infer(f"wrong.shape.{name}", inputs=[first, tensor("INPUT1", "INT32", shape, ONES)])
    yield infer("wrong.batch", inputs=[tensor("INPUT0", "INT32", [9, 16], RANGE * 9), tensor("INPUT1", "INT32", [9, 16], ONES * 9)])
    yield infer("wrong.batch.differs", inputs=[first, tensor("INPUT1", "INT32", [2, 16], ONES * 2)])
    yield infer("wrong.raw.few", raw=PACKED[:1])
    yield infer("wrong.raw.many", raw=PACKED + PACKED[:1])
    yield infer("wrong.raw.short", raw=[PACKED[0], PACKED[1][:-4]])
    yield infer("wrong.raw.long", raw=[PACKED[0], PACKED[1] + b"1234"])
    yield infer("wrong.raw.and_contents", inputs=[first, second], raw=PACKED)
    yield infer("wrong.raw.mixed", inputs=[first, tensor("INPUT1", "INT32", [1, 16])], raw=PACKED[1:])
    for name, data in (("few", strings(b"a")), ("long_element", strings(b"a") + struct.pack("<I", 9) + b"b"), ("half_length", strings(b"a") + b"\x01")):
        yield infer(f"wrong.bytes.{name}", "simple_identity", inputs=[tensor("INPUT0", "BYTES", [1, 2])], raw=[data])
    yield infer("wrong.parameter.priority", parameters={"priority": pb.InferParameter(string_param="high")})
    yield infer("wrong.parameter.timeout", parameters={"timeout": pb.InferParameter(string_param="1")})
    yield infer("wrong.parameter.sequence_id", parameters={"sequence_id": pb.InferParameter(bool_param=True)})
    yield infer("wrong.parameter.empty", parameters={"custom": pb.InferParameter()})
    yield infer("wrong.parameter.reserved", parameters={"triton_x": pb.InferParameter(int64_param=1)})
    region = tensor("INPUT1", "INT32", [1, 16])
    region.parameters["shared_memory_region"].string_param = "nobody"
    region.parameters["shared_memory_byte_size"].int64_param = 64
    yield infer("wrong.shared_memory", inputs=[first, region])
    yield case("wrong.message", "ModelInfer", b"\xff\xff\xff\xff")


def streams():
    good = request(id="1")
    yield case("stream", "ModelStreamInfer", [good, request(id="2")])
    yield case("stream.none", "ModelStreamInfer", [])
    yield case("stream.error_and_on", "ModelStreamInfer", [request("nobody", id="1"), request(id="2")])
    yield case("stream.bad_shape", "ModelStreamInfer", [request(inputs=[tensor("INPUT0", "INT32", [1, 16], RANGE)]), good])
    yield case("stream.status_error", "ModelStreamInfer", [request("nobody"), good], [("triton_grpc_error", "true")])
    final = request(id="1", parameters={"triton_enable_empty_final_response": pb.InferParameter(bool_param=True)})
    yield case("stream.final", "ModelStreamInfer", [final])


def control():
    def load(**parameters):
        return pb.RepositoryModelLoadRequest(model_name="simple_int8", parameters={name.replace("__", ":"): value for name, value in parameters.items()})

    text = lambda value: pb.ModelRepositoryParameter(string_param=value)
    yield case("index", "RepositoryIndex", pb.RepositoryIndexRequest())
    yield case("index.ready", "RepositoryIndex", pb.RepositoryIndexRequest(ready=True))
    yield case("index.repository", "RepositoryIndex", pb.RepositoryIndexRequest(repository_name="nobody"))
    yield case("load", "RepositoryModelLoad", load())
    yield case("load.unknown", "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="nobody"))
    yield case("load.config.bad", "RepositoryModelLoad", load(config=text("{")))
    yield case("load.config", "RepositoryModelLoad", load(config=text(json.dumps(WIDER))))
    yield case("load.config.seen", "ModelMetadata", pb.ModelMetadataRequest(name="simple_int8"))
    yield case("load.original", "RepositoryModelLoad", load())
    yield case("unload.unknown", "RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="nobody"))
    yield case("unload", "RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="simple_int8"))
    yield case("unload.ready", "ModelReady", pb.ModelReadyRequest(name="simple_int8"))
    yield case("unload.metadata", "ModelMetadata", pb.ModelMetadataRequest(name="simple_int8"))
    yield case("unload.index", "RepositoryIndex", pb.RepositoryIndexRequest())
    yield case("load.back", "RepositoryModelLoad", load())
    yield case("load.back.ready", "ModelReady", pb.ModelReadyRequest(name="simple_int8"))


def settings():
    def trace(model="", **values):
        result = pb.TraceSettingRequest(model_name=model)
        for name, value in values.items():
            result.settings[name].value.extend(value)
        return result

    def log(**values):
        return pb.LogSettingsRequest(settings={name: pb.LogSettingsRequest.SettingValue(**value) for name, value in values.items()})

    yield case("statistics.all", "ModelStatistics", pb.ModelStatisticsRequest())
    for model in ("", "simple"):
        yield case(f"trace.get {model}", "TraceSetting", trace(model))
        yield case(f"trace.set {model}", "TraceSetting", trace(model, trace_rate=["5"]))
        yield case(f"trace.clear {model}", "TraceSetting", trace(model, trace_rate=[]))
        yield case(f"trace.unknown_setting {model}", "TraceSetting", trace(model, nothing=["5"]))
        yield case(f"trace.bad_level {model}", "TraceSetting", trace(model, trace_level=["LOUD"]))
    yield case("trace.unknown_model", "TraceSetting", trace("nobody"))
    yield case("logging.get", "LogSettings", log())
    yield case("logging.set", "LogSettings", log(log_verbose_level={"uint32_param": 1}))
    yield case("logging.set_back", "LogSettings", log(log_verbose_level={"uint32_param": 0}))
    yield case("logging.unknown", "LogSettings", log(nothing={"uint32_param": 1}))
    yield case("logging.type", "LogSettings", log(log_info={"string_param": "yes"}))
    for kind in ("System", "Cuda"):
        status, unregister = getattr(pb, f"{kind}SharedMemoryStatusRequest"), getattr(pb, f"{kind}SharedMemoryUnregisterRequest")
        yield case(f"shm.{kind}.status", f"{kind}SharedMemoryStatus", status())
        yield case(f"shm.{kind}.status.region", f"{kind}SharedMemoryStatus", status(name="nobody"))
        yield case(f"shm.{kind}.unregister", f"{kind}SharedMemoryUnregister", unregister())
        yield case(f"shm.{kind}.unregister.region", f"{kind}SharedMemoryUnregister", unregister(name="nobody"))
    yield case("shm.register", "SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(name="new", key="/nobody_has_this", byte_size=64))


def cases():
    return [one for group in (servers, good, wrong, streams, control, settings) for one in group()]
