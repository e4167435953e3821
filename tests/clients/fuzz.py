"""Thousands of requests that are mostly wrong, from a seed: none may be answered with a 5xx that is not documented,
and the gateway must go on.

    fuzz.py HTTP GRPC [REQUESTS [SEED]]
"""

import gzip
import http.client
import json
import random
import socket
import struct
import sys
import zlib

import grpc

# What a server in good health may say: it is full (503), it does not do that (501), it took too long (504), HTTP/3.
EXPECTED = {501, 503, 504, 505}
WORDS = ["v2", "v1", "models", "simple", "simple_string", "identity_fp32", "nobatch", "versions", "1", "3", "99", "infer", "generate", "generate_stream", "ready", "live", "health",
         "config", "stats", "repository", "index", "load", "unload", "trace", "setting", "logging", "systemsharedmemory", "cudasharedmemory", "region", "status", "register",
         "unregister", "nobody", "simple:predict", "..", ".", "%2e%2e", "%00", "%ff", "a" * 5000, "", "é".encode().decode("latin-1"), "*", "<script>", "' or 1=1", "{}", "metadata"]
VALUES = [None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, 1.5, 1e400, -0.0, "", "x", "1", "\u0000", "\ud800", "INT32", "FP32", "BYTES", "INPUT0", "OUTPUT0", [], {}, [[]], [1, 16]]


class Fuzzer:
    def __init__(self, seed):
        self.random = random.Random(seed)

    def path(self):
        if self.random.random() < 0.5:
            return self.random.choice(["/v2/models/simple/infer", "/v2/models/simple_string/infer", "/v2/models/identity_fp32/infer", "/v2/models/nobatch/infer", "/v2/models/generate/generate",
                                       "/v2/repository/index", "/v2/logging", "/v2/trace/setting", "/v1/models/simple:predict", "/v2/models/classes/infer", "/v2/models/chain/infer"])
        path = "/" + "/".join(self.random.choice(WORDS) for _ in range(self.random.randrange(7)))
        if self.random.random() < 0.1:
            path += "?" + "&".join(f"{self.random.choice(WORDS)}={self.random.choice(WORDS)}" for _ in range(self.random.randrange(4)))
        return path.replace(" ", "+")

    def request(self):
        first = {"name": "INPUT0", "shape": [1, 16], "datatype": "INT32", "data": list(range(16))}
        second = {"name": "INPUT1", "shape": [1, 16], "datatype": "INT32", "data": [1] * 16}
        return {"id": "1", "inputs": [first, second], "outputs": [{"name": "OUTPUT0", "parameters": {"binary_data": False, "classification": 2}}], "parameters": {"priority": 0}}

    def mutated(self, value, depth=0):
        """The value with something in it replaced, removed or doubled."""
        roll = self.random.random()
        if roll < 0.06 or depth > 6:
            return self.random.choice(VALUES)
        if isinstance(value, dict):
            result = {key: self.mutated(item, depth + 1) for key, item in value.items() if self.random.random() > 0.03}
            if self.random.random() < 0.1:
                result[self.random.choice(["shape", "data", "parameters", "binary_data_size", "shared_memory_region", "x", ""])] = self.random.choice(VALUES)
            return result
        if isinstance(value, list):
            result = [self.mutated(item, depth + 1) for item in value if self.random.random() > 0.02]
            if result and self.random.random() < 0.05:
                result.append(result[0])
            return result
        return value

    def body(self):
        roll = self.random.random()
        if roll < 0.15:
            return self.random.randbytes(self.random.randrange(200))
        if roll < 0.2:
            return self.random.choice([b"[", b"{", b'"']) * self.random.randrange(1, 20_000)
        text = json.dumps(self.mutated(self.request())).encode()
        if roll < 0.3:
            position = self.random.randrange(len(text))
            return text[:position] + self.random.randbytes(self.random.randrange(3)) + text[position + self.random.randrange(3) :]
        if roll < 0.4:
            return text[: self.random.randrange(len(text))]
        return text

    def headers(self, body):
        headers = {}
        if self.random.random() < 0.3:
            headers["Inference-Header-Content-Length"] = str(self.random.choice([0, 1, -1, len(body), len(body) // 2, len(body) + 1, 2**64, "x", ""]))
        if self.random.random() < 0.1:
            headers["Content-Encoding"] = self.random.choice(["gzip", "deflate", "br", "gzip, gzip", ""])
        if self.random.random() < 0.1:
            headers["Accept-Encoding"] = self.random.choice(["gzip", "deflate;q=2", "br", ",,;q=", "\xff"])
        if self.random.random() < 0.1:
            headers["Content-Type"] = self.random.choice(["application/json", "application/octet-stream", "text/plain", "multipart/form-data", "\xff"])
        if self.random.random() < 0.03:
            headers["X-Many"] = "y" * self.random.randrange(20_000)
        return headers

    def compressed(self, body, headers):
        encoding = headers.get("Content-Encoding")
        if self.random.random() < 0.6 and encoding == "gzip":
            return gzip.compress(body)
        if self.random.random() < 0.6 and encoding == "deflate":
            return zlib.compress(body)
        return body


def exchanges(address, fuzzer, requests):
    """Requests over HTTP; what went wrong."""
    host, port = address.rsplit(":", 1)
    wrong, statuses = [], {}
    connection = None
    for _ in range(requests):
        method, path, body = fuzzer.random.choice(["GET", "POST", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "BREW"]), fuzzer.path(), fuzzer.body()
        headers = fuzzer.headers(body)
        body = fuzzer.compressed(body, headers)
        try:
            connection = connection or http_connection(host, port)
            connection.putrequest(method, path if path.isascii() else "/v2/models/%C3%A9", skip_accept_encoding=True)
            connection.putheader("Content-Length", str(len(body)))
            for name, value in headers.items():
                connection.putheader(name, value.encode("latin-1"))
            connection.endheaders(body)
            answer = connection.getresponse()
            answer.read()
            statuses[answer.status] = statuses.get(answer.status, 0) + 1
            if answer.status >= 500 and answer.status not in EXPECTED:
                wrong.append((answer.status, method, path[:200], headers, body[:300]))
            if answer.will_close:
                connection.close()
                connection = None
        except (ConnectionError, http.client.HTTPException, TimeoutError) as error:
            if isinstance(error, TimeoutError):
                wrong.append(("timeout", method, path[:200], headers, body[:300]))
            connection.close()
            connection = None
    print(f"fuzz: HTTP statuses {dict(sorted(statuses.items()))}")
    return wrong


def http_connection(host, port):
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    connection.connect()
    return connection


def bytes_on_a_socket(address, fuzzer, connections):
    """What is no HTTP at all. Any answer is fine, and so is none."""
    host, port = address.rsplit(":", 1)
    for _ in range(connections):
        with socket.create_connection((host, int(port)), timeout=5) as plain:
            head = fuzzer.random.choice([b"", b"GET ", b"POST /v2 HTTP/1.1\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"POST /v2/models/simple/infer HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", b"\x16\x03\x01"])
            try:
                plain.sendall(head + fuzzer.random.randbytes(fuzzer.random.randrange(500)))
            except ConnectionError:
                pass


METHODS = ["ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer", "ModelConfig", "ModelStatistics", "RepositoryIndex", "TraceSetting", "LogSettings",
           "SystemSharedMemoryStatus", "SystemSharedMemoryRegister", "CudaSharedMemoryStatus", "Nothing", ""]


def calls(address, fuzzer, requests):
    """Random messages over gRPC; what went wrong."""
    from tritonclient.grpc import service_pb2 as pb

    wrong, codes = [], {}
    inputs = [pb.ModelInferRequest.InferInputTensor(name=f"INPUT{n}", datatype="INT32", shape=[1, 16]) for n in (0, 1)]
    seed = pb.ModelInferRequest(model_name="simple", inputs=inputs, raw_input_contents=[struct.pack("<16i", *range(16))] * 2).SerializeToString()
    with grpc.insecure_channel(address) as channel:
        for _ in range(requests):
            roll = fuzzer.random.random()
            message = bytearray(seed)
            for _ in range(fuzzer.random.randrange(4)):
                message[fuzzer.random.randrange(len(message))] = fuzzer.random.randrange(256)
            if roll < 0.1:
                message = fuzzer.random.randbytes(fuzzer.random.randrange(100))
            elif roll < 0.2:
                message = message[: fuzzer.random.randrange(len(message))]
            method = "ModelInfer" if fuzzer.random.random() < 0.7 else fuzzer.random.choice(METHODS)
            try:
                channel.unary_unary(f"/inference.GRPCInferenceService/{method}")(bytes(message), timeout=20)
                code = "OK"
            except grpc.RpcError as error:
                code = error.code().name
                if code in ("INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "DATA_LOSS") and not is_decoding(error):
                    wrong.append((code, error.details(), method, bytes(message)))
            codes[code] = codes.get(code, 0) + 1
    print(f"fuzz: gRPC codes {dict(sorted(codes.items()))}")
    return wrong


def is_decoding(error):
    """gRPC itself says INTERNAL to a message that is none."""
    return "decode" in (error.details() or "") or "parsing" in (error.details() or "")


def main(http_address, grpc_address, requests=4000, seed=1):
    fuzzer = Fuzzer(int(seed))
    wrong = exchanges(http_address, fuzzer, int(requests))
    bytes_on_a_socket(http_address, fuzzer, int(requests) // 20)
    bytes_on_a_socket(grpc_address, fuzzer, int(requests) // 20)
    wrong += calls(grpc_address, fuzzer, int(requests) // 2)
    for each in wrong[:10]:
        print("fuzz:", *each)
    print(f"fuzz: {len(wrong)} answers that are not documented (seed {seed})")
    return len(wrong) > 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
