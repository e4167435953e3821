"""The HTTP requests that Triton and the gateway are asked: good ones, and every way to get one wrong."""

import gzip
import json
import struct
import zlib

from wire import binary, http_case, strings

RANGE = list(range(16))
ONES = [1] * 16


def tensor(name, shape, kind, data=None, **parameters):
    result = {"name": name, "shape": shape, "datatype": kind}
    if parameters:
        result["parameters"] = parameters
    if data is not None:
        result["data"] = data
    return result


def simple(**more):
    request = {"inputs": [tensor("INPUT0", [1, 16], "INT32", RANGE), tensor("INPUT1", [1, 16], "INT32", ONES)]}
    return request | more


def infer(name, model, body, headers=None, version=None):
    at = f"/versions/{version}" if version is not None else ""
    return http_case(name, "POST", f"/v2/models/{model}{at}/infer", body, headers)


def one(model, kind, shape, data, **more):
    """A request with one input in JSON."""
    return {"inputs": [tensor("INPUT0", shape, kind, data)]} | more


def routes():
    yield http_case("server.metadata", "GET", "/v2")
    yield http_case("server.metadata.slash", "GET", "/v2/")
    yield http_case("server.metadata.post", "POST", "/v2", "{}")
    yield http_case("server.metadata.query", "GET", "/v2?verbose=1")
    for probe in ("live", "ready"):
        yield http_case(f"health.{probe}", "GET", f"/v2/health/{probe}")
        yield http_case(f"health.{probe}.post", "POST", f"/v2/health/{probe}", "{}")
        yield http_case(f"health.{probe}.slash", "GET", f"/v2/health/{probe}/")
    yield http_case("health.unknown", "GET", "/v2/health/alive")
    for path in ("/", "/v3", "/v2/model", "/v2/models", "/v2/models/", "/v2/models/simple/versions", "/v2/models/simple/nothing",
                 "/v2/models/simple/versions/1/nothing", "/v2/repository", "/v2/nothing", "//v2", "/V2", "/v2/models/simple/infer/more"):
        yield http_case(f"route.unknown {path}", "GET", path)
    yield http_case("route.unknown.post", "POST", "/v2/nothing", "{}")
    yield http_case("route.put", "PUT", "/v2/models/simple/infer", simple())
    yield http_case("route.delete", "DELETE", "/v2/models/simple")
    yield http_case("route.head", "HEAD", "/v2/health/live")
    yield http_case("route.infer.get", "GET", "/v2/models/simple/infer")
    yield http_case("route.metadata.post", "POST", "/v2/models/simple", "{}")
    yield http_case("route.config.post", "POST", "/v2/models/simple/config", "{}")
    yield http_case("route.stats.post", "POST", "/v2/models/simple/stats", "{}")
    yield http_case("route.index.get", "GET", "/v2/repository/index")
    yield http_case("route.load.get", "GET", "/v2/repository/models/simple/load")
    yield http_case("route.generate.get", "GET", "/v2/models/generate/generate")


def models():
    known = ("simple", "simple_string", "nobatch", "free", "batched", "classes", "versions", "chain", "identity_fp32", "identity_bf16")
    for model in known:
        yield http_case(f"metadata.{model}", "GET", f"/v2/models/{model}")
        yield http_case(f"ready.{model}", "GET", f"/v2/models/{model}/ready")
        yield http_case(f"config.{model}", "GET", f"/v2/models/{model}/config")
        yield http_case(f"stats.{model}", "GET", f"/v2/models/{model}/stats")
    yield http_case("stats.all", "GET", "/v2/models/stats")
    for version in ("1", "2", "3", "9", "0", "-1", "01", "x", "1.0", "99999999999999999999"):
        at = f"/v2/models/versions/versions/{version}"
        yield http_case(f"version.{version}.metadata", "GET", at)
        yield http_case(f"version.{version}.ready", "GET", f"{at}/ready")
        yield http_case(f"version.{version}.config", "GET", f"{at}/config")
        yield http_case(f"version.{version}.stats", "GET", f"{at}/stats")
        yield infer(f"version.{version}.infer", "versions", one("versions", "INT32", [1, 1], [5]), version=version)
    yield infer("version.latest.infer", "versions", one("versions", "INT32", [1, 1], [5]))
    for model in ("nobody", "no%20body", "simple%2F1", "%73imple", "Simple", "a" * 300):
        name = model[:20]
        yield http_case(f"unknown.{name}.metadata", "GET", f"/v2/models/{model}")
        yield http_case(f"unknown.{name}.ready", "GET", f"/v2/models/{model}/ready")
        yield infer(f"unknown.{name}.infer", model, simple())
    yield http_case("unknown.nobody.config", "GET", "/v2/models/nobody/config")
    yield http_case("unknown.nobody.stats", "GET", "/v2/models/nobody/stats")
    yield http_case("unknown.nobody.generate", "POST", "/v2/models/nobody/generate", {"text_input": "x"})
    yield infer("unknown.nobody.bad_body", "nobody", "{")


def good():
    yield infer("infer.flat", "simple", simple())
    yield infer("infer.nested", "simple", {"inputs": [tensor("INPUT0", [1, 16], "INT32", [RANGE]), tensor("INPUT1", [1, 16], "INT32", [ONES])]})
    yield infer("infer.batch", "simple", {"inputs": [tensor("INPUT0", [2, 16], "INT32", RANGE * 2), tensor("INPUT1", [2, 16], "INT32", [ONES, RANGE])]})
    yield infer("infer.batch.largest", "simple", {"inputs": [tensor("INPUT0", [8, 16], "INT32", RANGE * 8), tensor("INPUT1", [8, 16], "INT32", ONES * 8)]})
    yield infer("infer.order", "simple", {"inputs": [tensor("INPUT1", [1, 16], "INT32", ONES), tensor("INPUT0", [1, 16], "INT32", RANGE)]})
    yield infer("infer.id", "simple", simple(id="request 7 é"))
    yield infer("infer.id.empty", "simple", simple(id=""))
    yield infer("infer.version", "simple", simple(), version=1)
    yield infer("infer.unknown_fields", "simple", simple(extra={"a": [1]}))
    yield infer("infer.outputs.one", "simple", simple(outputs=[{"name": "OUTPUT1"}]))
    yield infer("infer.outputs.reversed", "simple", simple(outputs=[{"name": "OUTPUT1"}, {"name": "OUTPUT0"}]))
    yield infer("infer.outputs.none", "simple", simple(outputs=[]))
    yield infer("infer.outputs.twice", "simple", simple(outputs=[{"name": "OUTPUT0"}, {"name": "OUTPUT0"}]))
    yield infer("infer.content_type.text", "simple", simple(), {"Content-Type": "text/plain"})
    yield infer("infer.content_type.json", "simple", simple(), {"Content-Type": "application/json"})
    yield infer("infer.content_type.charset", "simple", simple(), {"Content-Type": "application/json; charset=utf-8"})
    yield infer("infer.parameters", "simple", simple(parameters={"custom": "x", "number": 3, "flag": True, "fraction": 0.5}))
    yield infer("infer.parameters.priority", "simple", simple(parameters={"priority": 1}))
    yield infer("infer.parameters.timeout", "simple", simple(parameters={"timeout": 1_000_000}))
    yield infer("infer.chain", "chain", {"inputs": [tensor("A", [1, 16], "INT32", RANGE), tensor("B", [1, 16], "INT32", ONES)]})
    yield infer("infer.chain.one_output", "chain", {"inputs": [tensor("A", [1, 16], "INT32", RANGE), tensor("B", [1, 16], "INT32", ONES)], "outputs": [{"name": "TWICE_B"}]})
    yield infer("infer.nobatch", "nobatch", one("nobatch", "FP32", [2, 3], [[1, 2, 3], [4, 5, 6]]))
    yield infer("infer.free", "free", one("free", "FP32", [3, 2], [1, 2, 3, 4, 5, 6]))
    yield infer("infer.free.empty", "free", one("free", "FP32", [0, 2], []))
    yield infer("infer.batched", "batched", one("batched", "FP32", [1, 2, 2], [[[1, 2], [3, 4]]]))
    yield infer("infer.variable.empty", "identity_fp32", one("identity_fp32", "FP32", [1, 0], []))
    yield infer("infer.string", "simple_string", {"inputs": [tensor("INPUT0", [1, 16], "BYTES", [str(n) for n in RANGE]), tensor("INPUT1", [1, 16], "BYTES", [["1"] * 16])]})
    yield infer("infer.string.unicode", "simple_identity", one("", "BYTES", [1, 3], ["", "é\n\"", "日本"]))
    yield infer("infer.int8", "simple_int8", {"inputs": [tensor("INPUT0", [1, 16], "INT8", RANGE), tensor("INPUT1", [1, 16], "INT8", ONES)]})


EDGES = {
    "BOOL": ([True, False, True], "<???"),
    "UINT8": ([0, 7, 255], "<BBB"),
    "UINT16": ([0, 7, 65535], "<HHH"),
    "UINT32": ([0, 7, 2**32 - 1], "<III"),
    "UINT64": ([0, 7, 2**64 - 1], "<QQQ"),
    "INT8": ([-128, 7, 127], "<bbb"),
    "INT16": ([-(2**15), 7, 2**15 - 1], "<hhh"),
    "INT32": ([-(2**31), 7, 2**31 - 1], "<iii"),
    "INT64": ([-(2**63), 7, 2**63 - 1], "<qqq"),
    "FP16": ([0.5, -1.5, 65504.0], "<eee"),
    "FP32": ([0.1, -1.5, 3.0e38], "<fff"),
    "FP64": ([0.1, -1.5, 1.0e300], "<ddd"),
    "BF16": ([0x3F80, 0xC000, 0x7F00], "<HHH"),
}


def types():
    for kind, (values, form) in EDGES.items():
        model = f"identity_{kind.lower()}"
        packed = struct.pack(form, *values)
        yield infer(f"type.{kind}.json", model, one(model, kind, [1, 3], values))
        given = tensor("INPUT0", [1, 3], kind, binary_data_size=len(packed))
        for named, outputs in (("json", {}), ("binary", {"parameters": {"binary_data_output": True}})):
            yield infer(f"type.{kind}.binary_to_{named}", model, *binary({"inputs": [given]} | outputs, packed))
    # What does not fit is not cut.
    for kind, wrong in (("UINT8", [256, 0, 0]), ("UINT8", [-1, 0, 0]), ("INT8", [128, 0, 0]), ("INT32", [2**31, 0, 0]), ("INT64", [2**63, 0, 0]),
                        ("UINT64", [-1, 0, 0]), ("INT32", [1.5, 0, 0]), ("INT32", ["1", 0, 0]), ("INT32", [True, 0, 0]), ("INT32", [None, 0, 0]),
                        ("BOOL", [1, 0, 1]), ("BOOL", ["true", False, True]), ("FP32", ["x", 0, 0]), ("FP32", [1e39, 0, 0]), ("FP32", [1, 2, 3]), ("FP32", [True, 0, 0])):
        yield infer(f"type.{kind}.unfit {wrong[0]}", f"identity_{kind.lower()}", one("", kind, [1, 3], wrong))
    for kind in ("FP32", "FP64"):
        form = "<fff" if kind == "FP32" else "<ddd"
        packed = struct.pack(form, float("nan"), float("inf"), float("-inf"))
        given = tensor("INPUT0", [1, 3], kind, binary_data_size=len(packed))
        yield infer(f"type.{kind}.not_finite.binary", f"identity_{kind.lower()}", *binary({"inputs": [given], "parameters": {"binary_data_output": True}}, packed))
        yield infer(f"type.{kind}.not_finite.json_out", f"identity_{kind.lower()}", *binary({"inputs": [given]}, packed))
    yield infer("type.BYTES.numbers", "simple_identity", one("", "BYTES", [1, 2], [1, 2]))


def binaries():
    a, b = struct.pack("<16i", *RANGE), struct.pack("<16i", *ONES)
    both = [tensor("INPUT0", [1, 16], "INT32", binary_data_size=64), tensor("INPUT1", [1, 16], "INT32", binary_data_size=64)]
    body, headers = binary({"inputs": both}, a, b)
    yield infer("binary.in", "simple", body, headers)
    yield infer("binary.in.octet_stream", "simple", body, headers | {"Content-Type": "application/octet-stream"})
    yield infer("binary.in_out", "simple", *binary({"inputs": both, "parameters": {"binary_data_output": True}}, a, b))
    yield infer("binary.out.one", "simple", simple(outputs=[{"name": "OUTPUT0", "parameters": {"binary_data": True}}, {"name": "OUTPUT1"}]))
    yield infer("binary.out.flag_wins", "simple", simple(outputs=[{"name": "OUTPUT0", "parameters": {"binary_data": False}}, {"name": "OUTPUT1"}], parameters={"binary_data_output": True}))
    yield infer("binary.mixed", "simple", *binary({"inputs": [both[0], tensor("INPUT1", [1, 16], "INT32", ONES)]}, a))
    yield infer("binary.header.spaces", "simple", body, {"Inference-Header-Content-Length": " " + headers["Inference-Header-Content-Length"] + " "})
    head = int(headers["Inference-Header-Content-Length"])
    for name, value in (("negative", "-1"), ("text", "x"), ("too_long", str(len(body) + 1)), ("short", str(head - 1)), ("long", str(head + 1)), ("all", str(len(body))),
                        ("huge", "99999999999999999999"), ("fraction", "1.5"), ("empty", "")):
        yield infer(f"binary.header.{name}", "simple", body, {"Inference-Header-Content-Length": value})
    yield infer("binary.header.absent", "simple", body)
    yield infer("binary.header.without_binary", "simple", *binary(simple()))
    yield infer("binary.trailing", "simple", *binary({"inputs": both}, a, b, b"more"))
    yield infer("binary.truncated", "simple", *binary({"inputs": both}, a, b[:-4]))
    yield infer("binary.none", "simple", *binary({"inputs": both}))
    for name, size in (("small", 60), ("large", 68), ("zero", 0), ("negative", -64), ("text", "64"), ("fraction", 64.5), ("huge", 2**63)):
        wrong = [tensor("INPUT0", [1, 16], "INT32", binary_data_size=size), both[1]]
        yield infer(f"binary.size.{name}", "simple", *binary({"inputs": wrong}, a, b))
    yield infer("binary.and_data", "simple", *binary({"inputs": [tensor("INPUT0", [1, 16], "INT32", RANGE, binary_data_size=64), both[1]]}, a, b))
    words = strings(b"", b"abc", b"\xff\x00")
    given = tensor("INPUT0", [1, 3], "BYTES", binary_data_size=len(words))
    yield infer("binary.bytes.in_out", "simple_identity", *binary({"inputs": [given], "parameters": {"binary_data_output": True}}, words))
    yield infer("binary.bytes.to_json", "simple_identity", *binary({"inputs": [tensor("INPUT0", [1, 2], "BYTES", binary_data_size=11)]}, strings(b"", b"abc")))
    yield infer("binary.bytes.not_utf8_to_json", "simple_identity", *binary({"inputs": [given]}, words))
    for name, wrong in (("long_element", strings(b"a", b"b") + struct.pack("<I", 9) + b"c"), ("few", strings(b"a", b"b")), ("many", strings(b"a", b"b", b"c", b"d")),
                        ("half_length", strings(b"a", b"b") + b"\x01\x00"), ("huge_length", strings(b"a", b"b") + b"\xff\xff\xff\xff")):
        given = tensor("INPUT0", [1, 3], "BYTES", binary_data_size=len(wrong))
        yield infer(f"binary.bytes.{name}", "simple_identity", *binary({"inputs": [given]}, wrong))


def raw():
    zero = {"Inference-Header-Content-Length": "0"}
    yield infer("raw.nobatch", "nobatch", struct.pack("<6f", 1, 2, 3, 4, 5, 6), zero)
    yield infer("raw.variable", "free", struct.pack("<6f", 1, 2, 3, 4, 5, 6), zero)
    yield infer("raw.batch", "identity_fp32", struct.pack("<3f", 1, 2, 3), zero)
    yield infer("raw.fixed_batch", "classes", struct.pack("<4f", 1, 2, 3, 4), zero)
    yield infer("raw.bytes", "bytes_nobatch", b"any bytes \xff", zero)
    yield infer("raw.bytes.batch", "generate", b"any bytes", zero)
    yield infer("raw.bytes.variable", "simple_identity", b"any bytes", zero)
    yield infer("raw.empty", "nobatch", b"", zero)
    yield infer("raw.short", "nobatch", struct.pack("<5f", 1, 2, 3, 4, 5), zero)
    yield infer("raw.odd", "free", b"12345", zero)
    yield infer("raw.two_inputs", "simple", struct.pack("<16i", *RANGE), zero)
    yield infer("raw.two_variable", "batched", struct.pack("<4f", 1, 2, 3, 4), zero)


def classification():
    def classes(count, data=(0.1, 0.4, 0.3, 0.2), rows=1, **more):
        return one("classes", "FP32", [rows, 4], list(data), outputs=[{"name": "OUTPUT0", "parameters": {"classification": count} | more}])

    for count in (1, 2, 4, 9):
        yield infer(f"classification.{count}", "classes", classes(count))
    yield infer("classification.batch", "classes", classes(2, (0.1, 0.4, 0.3, 0.2, 9, 8, 7, 6), 2))
    yield infer("classification.ties", "classes", classes(4, (1, 1, 1, 1)))
    yield infer("classification.binary", "classes", classes(2, binary_data=True))
    yield infer("classification.unlabelled", "simple", simple(outputs=[{"name": "OUTPUT0", "parameters": {"classification": 3}}]))
    yield infer("classification.bytes", "simple_identity", one("", "BYTES", [1, 2], ["a", "b"], outputs=[{"name": "OUTPUT0", "parameters": {"classification": 1}}]))
    for count in (0, -1, "1", 1.5, True):
        yield infer(f"classification.wrong {count!r}", "classes", classes(count))


def wrong():
    yield infer("wrong.json.empty", "simple", b"")
    for name, body in (("cut", '{"inputs":['), ("text", "hello"), ("number", "7"), ("null", "null"), ("array", "[]"), ("string", '"x"'), ("trailing", '{"inputs":[]} x'),
                       ("nan", '{"inputs":[NaN]}'), ("comma", '{"inputs":[],}'), ("control", '{"id":"\x01","inputs":[]}'), ("surrogate", '{"id":"\\ud800","inputs":[]}'),
                       ("deep", "[" * 200 + "]" * 200), ("comment", '{"inputs":[]/**/}'), ("bom", "\ufeff{}")):
        yield infer(f"wrong.json.{name}", "simple", body)
    yield infer("wrong.json.not_utf8", "simple", b'{"id":"\xff","inputs":[]}')
    for name, body in (("object", {}), ("inputs_empty", {"inputs": []}), ("inputs_null", {"inputs": None}), ("inputs_object", {"inputs": {}}), ("inputs_text", {"inputs": "x"}),
                       ("input_number", {"inputs": [1]}), ("input_empty", {"inputs": [{}]}), ("outputs_object", simple(outputs={})), ("outputs_text", simple(outputs="OUTPUT0")),
                       ("output_number", simple(outputs=[1])), ("output_unnamed", simple(outputs=[{}])), ("output_unknown", simple(outputs=[{"name": "OUTPUT9"}])),
                       ("id_number", simple(id=7)), ("id_null", simple(id=None)), ("parameters_array", simple(parameters=[])), ("parameters_text", simple(parameters="x")),
                       ("parameter_null", simple(parameters={"a": None})), ("parameter_object", simple(parameters={"a": {}})), ("parameter_array", simple(parameters={"a": [1]})),
                       ("priority_text", simple(parameters={"priority": "high"})), ("priority_negative", simple(parameters={"priority": -1})), ("timeout_text", simple(parameters={"timeout": "1"})),
                       ("reserved_parameter", simple(parameters={"triton_x": 1})), ("sequence", simple(parameters={"sequence_id": 3, "sequence_start": True}))):
        yield infer(f"wrong.{name}", "simple", body)
    first, second = simple()["inputs"]
    for name, inputs in (("missing", [first]), ("unknown_name", [first, second | {"name": "INPUT9"}]), ("third", [first, second, first | {"name": "INPUT2"}]), ("twice", [first, first]),
                         ("twice_more", [first, second, second]), ("name_absent", [first, {key: value for key, value in second.items() if key != "name"}]), ("name_number", [first, second | {"name": 1}]),
                         ("name_empty", [first, second | {"name": ""}])):
        yield infer(f"wrong.input.{name}", "simple", {"inputs": inputs})
    for field in ("shape", "datatype", "data"):
        yield infer(f"wrong.{field}.absent", "simple", {"inputs": [first, {key: value for key, value in second.items() if key != field}]})
        yield infer(f"wrong.{field}.null", "simple", {"inputs": [first, second | {field: None}]})
        yield infer(f"wrong.{field}.object", "simple", {"inputs": [first, second | {field: {}}]})
    for name, kind in (("other", "FP32"), ("unknown", "INT33"), ("lower", "int32"), ("empty", ""), ("type_prefix", "TYPE_INT32"), ("number", 3)):
        yield infer(f"wrong.datatype.{name}", "simple", {"inputs": [first, second | {"datatype": kind}]})
    for name, shape in (("flat", [16]), ("scalar", []), ("more_dims", [1, 1, 16]), ("other", [1, 8]), ("transposed", [16, 1]), ("negative", [-1, 16]), ("both_negative", [-1, -16]), ("zero", [0, 16]),
                        ("text", ["1", "16"]), ("fraction", [1.0, 16]), ("half", [1.5, 16]), ("huge", [2**62, 16]), ("overflow", [2**63, 16]), ("product_overflow", [2**40, 2**40]), ("number", 16), ("nested", [[1, 16]])):
        yield infer(f"wrong.shape.{name}", "simple", {"inputs": [first, second | {"shape": shape}]})
    for name, data in (("few", ONES[:-1]), ("many", ONES + [1]), ("none", []), ("nested_few", [ONES[:-1]]), ("ragged", [ONES[:8], ONES[:7]]), ("other_nesting", [ONES[:8], ONES[8:]]),
                       ("deep", [[[[ONES]]]]), ("text", "1"), ("number", 1), ("true", True)):
        yield infer(f"wrong.data.{name}", "simple", {"inputs": [first, second | {"data": data}]})
    for rows in (9, 1000):
        yield infer(f"wrong.batch.{rows}", "simple", {"inputs": [tensor("INPUT0", [rows, 16], "INT32", RANGE * rows), tensor("INPUT1", [rows, 16], "INT32", ONES * rows)]})
    yield infer("wrong.batch.differs", "simple", {"inputs": [tensor("INPUT0", [1, 16], "INT32", RANGE), tensor("INPUT1", [2, 16], "INT32", ONES * 2)]})
    yield infer("wrong.batch.zero", "simple", {"inputs": [tensor("INPUT0", [0, 16], "INT32", []), tensor("INPUT1", [0, 16], "INT32", [])]})
    yield infer("wrong.nobatch.shape", "nobatch", one("", "FP32", [3, 2], [1, 2, 3, 4, 5, 6]))
    yield infer("wrong.free.shape", "free", one("", "FP32", [2, 3], [1, 2, 3, 4, 5, 6]))
    yield infer("wrong.string.number", "simple_string", {"inputs": [tensor("INPUT0", [1, 16], "BYTES", RANGE), tensor("INPUT1", [1, 16], "BYTES", ["1"] * 16)]})
    region = tensor("INPUT1", [1, 16], "INT32", shared_memory_region="nobody", shared_memory_byte_size=64)
    yield infer("wrong.shared_memory.unknown", "simple", {"inputs": [first, region]})
    yield infer("wrong.shared_memory.number", "simple", {"inputs": [first, region | {"parameters": {"shared_memory_region": 1}}]})


def compression():
    body = bytes(str(simple()).replace("'", '"'), "ascii")
    packed = {"gzip": gzip.compress(body, mtime=0), "deflate": zlib.compress(body)}
    for kind, data in packed.items():
        yield infer(f"compression.in.{kind}", "simple", data, {"Content-Encoding": kind})
        yield infer(f"compression.in.{kind}.cut", "simple", data[:-9], {"Content-Encoding": kind})
        yield infer(f"compression.in.{kind}.garbage", "simple", b"garbage, not compressed", {"Content-Encoding": kind})
        yield infer(f"compression.out.{kind}", "simple", body, {"Accept-Encoding": kind})
    yield infer("compression.in.unknown", "simple", body, {"Content-Encoding": "br"})
    yield infer("compression.in.identity", "simple", body, {"Content-Encoding": "identity"})
    yield infer("compression.in.upper", "simple", packed["gzip"], {"Content-Encoding": "GZIP"})
    for name, accepts in (("unknown", "br"), ("any", "*"), ("identity", "identity"), ("list", "deflate;q=0.5, gzip;q=0.9"), ("refused", "gzip;q=0, deflate"), ("none", "")):
        yield infer(f"compression.out.{name}", "simple", body, {"Accept-Encoding": accepts})
    request = simple(parameters={"binary_data_output": True})
    yield infer("compression.out.binary", "simple", request, {"Accept-Encoding": "gzip"})
    yield infer("compression.out.error", "simple", "{", {"Accept-Encoding": "gzip"})
    yield http_case("compression.out.metadata", "GET", "/v2/models/simple", b"", {"Accept-Encoding": "gzip"})


def generate():
    at = "/v2/models/generate"
    yield http_case("generate", "POST", f"{at}/generate", {"text_input": "hello"})
    yield http_case("generate.version", "POST", f"{at}/versions/1/generate", {"text_input": "hello"})
    yield http_case("generate.list", "POST", f"{at}/generate", {"text_input": ["hello"]})
    yield http_case("generate.two", "POST", f"{at}/generate", {"text_input": ["a", "b"]})
    yield http_case("generate.id", "POST", f"{at}/generate", {"id": "7", "text_input": "hello"})
    yield http_case("generate.parameters", "POST", f"{at}/generate", {"text_input": "hello", "temperature": 0.5, "stream": False})
    yield http_case("generate.nested_parameters", "POST", f"{at}/generate", {"text_input": "hello", "parameters": {"a": 1}})
    yield http_case("generate.number", "POST", f"{at}/generate", {"text_input": 7})
    yield http_case("generate.missing", "POST", f"{at}/generate", {})
    yield http_case("generate.bad_json", "POST", f"{at}/generate", "{")
    yield http_case("generate.array", "POST", f"{at}/generate", [])
    yield http_case("generate.numbers", "POST", "/v2/models/identity_fp32/generate", {"INPUT0": [1.0, 2.0]})
    yield http_case("generate.stream", "POST", f"{at}/generate_stream", {"text_input": "hello"})
    yield http_case("generate.stream.missing", "POST", f"{at}/generate_stream", {})
    yield http_case("generate.stream.bad_json", "POST", f"{at}/generate_stream", "{")


# A configuration that comes with a load call takes the place of the whole file.
WIDER = {
    "max_batch_size": 16,
    "input": [{"name": name, "data_type": "TYPE_INT8", "dims": [16]} for name in ("INPUT0", "INPUT1")],
    "output": [{"name": name, "data_type": "TYPE_INT8", "dims": [16]} for name in ("OUTPUT0", "OUTPUT1")],
}


def repository():
    yield http_case("index", "POST", "/v2/repository/index")
    yield http_case("index.empty_object", "POST", "/v2/repository/index", {})
    yield http_case("index.ready", "POST", "/v2/repository/index", {"ready": True})
    yield http_case("index.bad_json", "POST", "/v2/repository/index", "{")
    yield http_case("index.ready_text", "POST", "/v2/repository/index", {"ready": "yes"})
    yield http_case("index.unknown_repository", "POST", "/v2/repository/nobody/index")
    yield http_case("load.again", "POST", "/v2/repository/models/simple_int8/load")
    yield http_case("load.unknown", "POST", "/v2/repository/models/nobody/load")
    yield http_case("load.bad_json", "POST", "/v2/repository/models/simple_int8/load", "{")
    yield http_case("load.config.bad", "POST", "/v2/repository/models/simple_int8/load", {"parameters": {"config": "{"}})
    yield http_case("load.config.number", "POST", "/v2/repository/models/simple_int8/load", {"parameters": {"config": 7}})
    yield http_case("load.file_without_config", "POST", "/v2/repository/models/simple_int8/load", {"parameters": {"file:1/model.onnx": "AAAA"}})
    yield http_case("load.config", "POST", "/v2/repository/models/simple_int8/load", {"parameters": {"config": json.dumps(WIDER)}})
    yield http_case("load.config.seen", "GET", "/v2/models/simple_int8")
    yield http_case("load.original", "POST", "/v2/repository/models/simple_int8/load")
    yield http_case("unload.unknown", "POST", "/v2/repository/models/nobody/unload")
    yield http_case("unload.bad_json", "POST", "/v2/repository/models/simple_int8/unload", "{")
    yield http_case("unload", "POST", "/v2/repository/models/simple_int8/unload")
    yield http_case("unload.infer", "POST", "/v2/models/simple_int8/infer", one("", "INT8", [1, 16], RANGE))
    yield http_case("unload.ready", "GET", "/v2/models/simple_int8/ready")
    yield http_case("unload.metadata", "GET", "/v2/models/simple_int8")
    yield http_case("unload.index", "POST", "/v2/repository/index")
    yield http_case("unload.index.ready", "POST", "/v2/repository/index", {"ready": True})
    yield http_case("unload.again", "POST", "/v2/repository/models/simple_int8/unload")
    yield http_case("load.back", "POST", "/v2/repository/models/simple_int8/load")
    yield http_case("load.back.ready", "GET", "/v2/models/simple_int8/ready")


def settings():
    for at in ("/v2/trace/setting", "/v2/models/simple/trace/setting"):
        yield http_case(f"trace.get {at}", "GET", at)
        yield http_case(f"trace.set {at}", "POST", at, {"trace_rate": "5"})
        yield http_case(f"trace.clear {at}", "POST", at, {"trace_rate": None})
        yield http_case(f"trace.unknown_setting {at}", "POST", at, {"nothing": "5"})
        yield http_case(f"trace.bad_level {at}", "POST", at, {"trace_level": ["LOUD"]})
        yield http_case(f"trace.bad_rate {at}", "POST", at, {"trace_rate": "often"})
        yield http_case(f"trace.bad_json {at}", "POST", at, "{")
    yield http_case("trace.unknown_model", "GET", "/v2/models/nobody/trace/setting")
    yield http_case("logging.get", "GET", "/v2/logging")
    yield http_case("logging.set", "POST", "/v2/logging", {"log_verbose_level": 1})
    yield http_case("logging.set_back", "POST", "/v2/logging", {"log_verbose_level": 0, "log_info": True})
    yield http_case("logging.format", "POST", "/v2/logging", {"log_format": "ISO8601"})
    yield http_case("logging.format_back", "POST", "/v2/logging", {"log_format": "default"})
    for name, setting in (("unknown", {"nothing": 1}), ("type", {"log_info": "yes"}), ("negative", {"log_verbose_level": -1}), ("file", {"log_file": "/tmp/x"}), ("bad_format", {"log_format": "xml"})):
        yield http_case(f"logging.{name}", "POST", "/v2/logging", setting)
    yield http_case("logging.bad_json", "POST", "/v2/logging", "{")


def shared_memory():
    for kind in ("system", "cuda"):
        at = f"/v2/{kind}sharedmemory"
        yield http_case(f"shm.{kind}.status", "GET", f"{at}/status")
        yield http_case(f"shm.{kind}.status.region", "GET", f"{at}/region/nobody/status")
        yield http_case(f"shm.{kind}.unregister", "POST", f"{at}/unregister")
        yield http_case(f"shm.{kind}.unregister.region", "POST", f"{at}/region/nobody/unregister")
        yield http_case(f"shm.{kind}.register.empty", "POST", f"{at}/region/new/register", {})
        yield http_case(f"shm.{kind}.register.get", "GET", f"{at}/region/new/register")
    register = "/v2/systemsharedmemory/region/new/register"
    yield http_case("shm.register.missing_key", "POST", register, {"key": "/nobody_has_this", "byte_size": 64})
    yield http_case("shm.register.bad_json", "POST", register, "{")
    yield http_case("shm.register.no_size", "POST", register, {"key": "/nobody_has_this"})
    yield http_case("shm.register.negative", "POST", register, {"key": "/nobody_has_this", "byte_size": -1})


def cases():
    groups = (routes, models, good, types, binaries, raw, classification, wrong, compression, generate, repository, settings, shared_memory)
    return [case for group in groups for case in group()]
