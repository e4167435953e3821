"""Requests whose tensors lie in system shared memory: registering it, reading inputs and writing outputs, and every way to
get that wrong. The memory is there while all of them are asked; what was written is seen by reading it as an input."""

import contextlib
import pathlib
import struct

from grpc_cases import case, infer as grpc_infer, pb, tensor as grpc_tensor
from http_cases import ONES, RANGE, binary, http_case, infer, one, tensor
from wire import strings

KEY = "/sluice_oracle"
BYTES = 8192
# A page behind the beginning: Triton takes no other offset.
PART = 4096
SIZE = 64
HUGE = 2**64 - 1
WORDS = strings(*(str(number).encode() for number in range(16)))
# Where things lie: two inputs at the beginning, texts, and room for outputs.
AT_WORDS, AT_OUT, AT_WORDS_OUT = 1024, 2048, 3072


@contextlib.contextmanager
def memory():
    """The shared memory, as its owner fills it."""
    file = pathlib.Path("/dev/shm") / KEY.strip("/")
    content = bytearray(BYTES)
    content[: 2 * SIZE] = struct.pack("<32i", *RANGE, *ONES)
    content[AT_WORDS : AT_WORDS + len(WORDS)] = WORDS
    file.write_bytes(content)
    try:
        yield
    finally:
        file.unlink()


def where(offset, size=SIZE, region="all"):
    at = {"shared_memory_region": region}
    if size is not None:
        at["shared_memory_byte_size"] = size
    if offset:
        at["shared_memory_offset"] = offset
    return at


def http():
    def register(name, body, region="other"):
        return http_case(f"memory.register.{name}", "POST", f"/v2/systemsharedmemory/region/{region}/register", body)

    def status(name, region=None):
        return http_case(f"memory.status{name}", "GET", f"/v2/systemsharedmemory{f'/region/{region}' if region else ''}/status")

    def unregister(name, region=None):
        return http_case(f"memory.unregister{name}", "POST", f"/v2/systemsharedmemory{f'/region/{region}' if region else ''}/unregister")

    def ask(name, first=(0, SIZE), second=(SIZE, SIZE), outputs=None, model="simple", **more):
        inputs = [tensor(f"INPUT{index}", [1, 16], "INT32", **where(*at)) if isinstance(at, tuple) else at for index, at in enumerate((first, second))]
        request = {"inputs": inputs} | more
        if outputs is not None:
            request["outputs"] = [{"name": f"OUTPUT{index}", "parameters": at} if at is not None else {"name": f"OUTPUT{index}"} for index, at in enumerate(outputs)]
        return infer(f"memory.{name}", model, request)

    good = {"key": KEY, "byte_size": BYTES}
    bad = {"too_long": {"byte_size": 2 * BYTES}, "beyond": {"offset": 2 * BYTES}, "end": {"offset": PART}, "overflow": {"offset": HUGE}, "empty": {"byte_size": 0},
           "size.text": {"byte_size": "64"}, "size.huge": {"byte_size": HUGE}, "offset.negative": {"offset": -1}, "offset.text": {"offset": "0"}, "key.number": {"key": 1}, "key.empty": {"key": ""}, "key.slash": {"key": "/"},
           "key.nested": {"key": "/a/b"}, "key.up": {"key": "/../shm/sluice_oracle"}, "key.path": {"key": "/dev/shm/sluice_oracle"}, "key.dots": {"key": ".."}}
    for name, change in bad.items():
        yield register(name, good | change, f"bad.{name}")
    yield register("list", [], "bad.list")
    # Under another key, because Triton registers one key once. Nothing is read of it: Triton 2.51 adds the offset twice,
    # and answers with whatever lies behind the memory.
    yield register("part", {"key": KEY.strip("/"), "offset": PART, "byte_size": 2 * SIZE}, "part")
    yield register("more", good | {"more": 1}, "all")
    yield status("")
    yield status(".region", "part")
    yield register("again", good, "all")
    yield register("again.other", {"key": KEY, "byte_size": SIZE}, "all")
    yield register("again.name", good, "a%20name")

    yield ask("in")
    yield ask("in.and_data", tensor("INPUT0", [1, 16], "INT32", RANGE))
    yield ask("in.twice", tensor("INPUT0", [1, 16], "INT32", RANGE, **where(0)))
    yield ask("in.no_size", (0, None))
    yield ask("in.size.text", tensor("INPUT0", [1, 16], "INT32", shared_memory_region="all", shared_memory_byte_size="64"))
    yield ask("in.size.negative", (0, -1))
    yield ask("in.size.zero", (0, 0))
    yield ask("in.size.small", (0, SIZE - 1))
    yield ask("in.size.large", (0, SIZE + 1))
    yield ask("in.size.huge", (0, HUGE))
    yield ask("in.offset.text", tensor("INPUT0", [1, 16], "INT32", shared_memory_region="all", shared_memory_byte_size=SIZE, shared_memory_offset="0"))
    yield ask("in.offset.negative", (-1, SIZE))
    yield ask("in.end", (BYTES - SIZE // 2, SIZE))
    yield ask("in.beyond", (2 * BYTES, SIZE))
    yield ask("in.overflow", (HUGE - 8, SIZE))
    yield ask("in.unknown", (0, SIZE, "nobody"))
    yield ask("in.no_region", tensor("INPUT0", [1, 16], "INT32", shared_memory_byte_size=SIZE))
    yield ask("in.binary_size", tensor("INPUT0", [1, 16], "INT32", binary_data_size=SIZE, **where(0)))
    body, headers = binary({"inputs": [tensor("INPUT0", [1, 16], "INT32", binary_data_size=SIZE), tensor("INPUT1", [1, 16], "INT32", **where(SIZE))]}, struct.pack("<16i", *RANGE))
    yield infer("memory.in.and_binary", "simple", body, headers)

    yield ask("out", outputs=[where(AT_OUT), where(AT_OUT + SIZE)])
    yield ask("out.seen", (AT_OUT, SIZE), (AT_OUT + SIZE, SIZE))
    yield ask("out.larger", outputs=[where(AT_OUT, 2 * SIZE)])
    yield ask("out.in_place", outputs=[where(AT_OUT, SIZE)], first=(AT_OUT, SIZE))
    yield ask("out.in_place.seen", (AT_OUT, SIZE))
    yield ask("out.mixed", outputs=[where(AT_OUT), None])
    yield ask("out.mixed.binary", outputs=[where(AT_OUT), {"binary_data": True}])
    yield ask("out.binary", outputs=[where(AT_OUT) | {"binary_data": True}])
    yield ask("out.json", outputs=[where(AT_OUT) | {"binary_data": False}])
    yield ask("out.classes", outputs=[where(AT_OUT, 256) | {"classification": 2}])
    yield ask("out.small", outputs=[where(AT_OUT, SIZE - 1)])
    yield ask("out.zero", outputs=[where(AT_OUT, 0)])
    yield ask("out.no_size", outputs=[where(AT_OUT, None)])
    yield ask("out.end", outputs=[where(BYTES - SIZE // 2)])
    yield ask("out.overflow", outputs=[where(HUGE - 8)])
    yield ask("out.unknown", outputs=[where(0, SIZE, "nobody")])
    yield ask("out.number", outputs=[{"shared_memory_region": 1, "shared_memory_byte_size": SIZE}])
    yield ask("out.size.text", outputs=[{"shared_memory_region": "all", "shared_memory_byte_size": "64"}])

    words = tensor("INPUT0", [1, 16], "BYTES", **where(AT_WORDS, len(WORDS)))
    yield infer("memory.words", "simple_identity", {"inputs": [words], "outputs": [{"name": "OUTPUT0", "parameters": where(AT_WORDS_OUT, 512)}]})
    yield infer("memory.words.seen", "simple_identity", {"inputs": [tensor("INPUT0", [1, 16], "BYTES", **where(AT_WORDS_OUT, len(WORDS)))]})
    yield infer("memory.words.cut", "simple_identity", {"inputs": [tensor("INPUT0", [1, 16], "BYTES", **where(AT_WORDS, len(WORDS) - 1))]})
    yield infer("memory.words.few", "simple_identity", {"inputs": [tensor("INPUT0", [1, 17], "BYTES", **where(AT_WORDS, len(WORDS)))]})
    yield infer("memory.words.no_frames", "simple_identity", {"inputs": [tensor("INPUT0", [1, 16], "BYTES", **where(SIZE, SIZE))]})
    yield infer("memory.empty", "identity_fp32", one("", "FP32", [1, 0], None) | {"inputs": [tensor("INPUT0", [1, 0], "FP32", **where(0, 0))]})

    yield unregister(".region", "part")
    yield ask("in.forgotten", (0, SIZE, "part"))
    yield status(".forgotten", "part")
    yield unregister("")
    yield status(".none")
    yield ask("in.all_forgotten")
    handle = {"raw_handle": {"b64": "AAAA"}, "device_id": 0, "byte_size": SIZE}
    yield http_case("memory.cuda.register", "POST", "/v2/cudasharedmemory/region/new/register", handle)


def grpc():
    def parameters(given, at):
        for name, value in at.items():
            field = "string_param" if isinstance(value, str) else "int64_param"
            if isinstance(value, int) and value > 2**63 - 1:
                field = "uint64_param"
            setattr(given[name], field, value)

    def register(name, region="other", key=KEY, offset=0, byte_size=BYTES):
        return case(f"memory.register.{name}", "SystemSharedMemoryRegister", pb.SystemSharedMemoryRegisterRequest(name=region, key=key, offset=offset, byte_size=byte_size))

    def there(index, at, name="INPUT", kind="INT32", shape=(1, 16)):
        if not isinstance(at, dict):
            return at
        result = grpc_tensor(f"{name}{index}", kind, list(shape))
        parameters(result.parameters, at)
        return result

    def wanted(index, at):
        result = pb.ModelInferRequest.InferRequestedOutputTensor(name=f"OUTPUT{index}")
        parameters(result.parameters, at)
        return result

    def ask(name, first=where(0), second=where(SIZE), outputs=(), raw=()):
        return grpc_infer(f"memory.{name}", inputs=[there(0, first), there(1, second)], outputs=[wanted(index, at) for index, at in enumerate(outputs)], raw=raw)

    yield register("too_long", byte_size=2 * BYTES)
    yield register("overflow", offset=HUGE)
    yield register("empty", byte_size=0)
    yield register("key.empty", key="")
    yield register("key.up", key="/../shm/sluice_oracle")
    yield register("part", "part", key=KEY.strip("/"), offset=PART, byte_size=2 * SIZE)
    yield register("whole", "all")
    yield case("memory.status", "SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest())
    yield case("memory.status.region", "SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest(name="part"))
    yield register("again", "all")
    yield register("nameless", "", key="sluice_oracle")

    typed = grpc_tensor("INPUT0", "INT32", [1, 16], RANGE)
    bare = grpc_tensor("INPUT0", "INT32", [1, 16])
    packed = struct.pack("<16i", *RANGE)
    both = there(0, where(0))
    both.contents.int_contents.extend(RANGE)
    yield ask("in")
    yield ask("in.and_contents", typed)
    yield ask("in.and_raw", bare, raw=[packed])
    yield ask("in.raw_many", bare, raw=[packed, packed])
    yield ask("in.raw_none", where(0), where(SIZE), raw=[packed])
    yield ask("in.twice", both)
    yield ask("in.no_size", where(0, None))
    yield ask("in.size.text", {"shared_memory_region": "all", "shared_memory_byte_size": "64"})
    yield ask("in.size.negative", where(0, -1))
    yield ask("in.size.zero", where(0, 0))
    yield ask("in.size.small", where(0, SIZE - 1))
    yield ask("in.size.unsigned", where(0, HUGE))
    yield ask("in.offset.text", {"shared_memory_region": "all", "shared_memory_byte_size": SIZE, "shared_memory_offset": "0"})
    yield ask("in.offset.negative", where(-1))
    yield ask("in.end", where(BYTES - SIZE // 2))
    yield ask("in.unknown", where(0, SIZE, "nobody"))
    yield ask("in.number", {"shared_memory_region": 1, "shared_memory_byte_size": SIZE})
    yield ask("in.no_region", {"shared_memory_byte_size": SIZE})

    yield ask("out", outputs=[where(AT_OUT), where(AT_OUT + SIZE)])
    yield ask("out.seen", where(AT_OUT), where(AT_OUT + SIZE))
    yield ask("out.larger", outputs=[where(AT_OUT, 2 * SIZE)])
    yield ask("out.mixed", outputs=[where(AT_OUT), {}])
    yield ask("out.classes", outputs=[where(AT_OUT, 256) | {"classification": 2}])
    yield ask("out.small", outputs=[where(AT_OUT, SIZE - 1)])
    yield ask("out.no_size", outputs=[where(AT_OUT, None)])
    yield ask("out.end", outputs=[where(BYTES - SIZE // 2)])
    yield ask("out.unknown", outputs=[where(0, SIZE, "nobody")])
    yield ask("out.number", outputs=[{"shared_memory_region": 1, "shared_memory_byte_size": SIZE}])
    yield case("memory.stream", "ModelStreamInfer", [pb.ModelInferRequest(model_name="simple", id="1", inputs=[there(0, where(0)), there(1, where(SIZE))], outputs=[wanted(0, where(AT_OUT))])])

    words = there(0, where(AT_WORDS, len(WORDS)), kind="BYTES")
    yield grpc_infer("memory.words", "simple_identity", inputs=[words], outputs=[wanted(0, where(AT_WORDS_OUT, 512))])
    yield grpc_infer("memory.words.cut", "simple_identity", inputs=[there(0, where(AT_WORDS, len(WORDS) - 1), kind="BYTES")])

    yield case("memory.unregister.region", "SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest(name="part"))
    yield ask("in.forgotten", where(0, SIZE, "part"))
    yield case("memory.unregister", "SystemSharedMemoryUnregister", pb.SystemSharedMemoryUnregisterRequest())
    yield case("memory.status.none", "SystemSharedMemoryStatus", pb.SystemSharedMemoryStatusRequest())
    yield ask("in.all_forgotten")
    yield case("memory.cuda.register", "CudaSharedMemoryRegister", pb.CudaSharedMemoryRegisterRequest(name="new", raw_handle=b"abc", byte_size=SIZE))
