"""Asks Triton, writes down what it answered, and compares the gateway's answers with that.

    oracle.py record HTTP GRPC COMMAND...   start Triton, which serves at these addresses (host:port), and record
    oracle.py compare HTTP GRPC             ask the gateway and compare; what intended.toml explains may differ

scripts/record-oracle.sh and scripts/test-oracle.sh call this.
"""

import collections
import fnmatch
import hashlib
import json
import pathlib
import struct
import subprocess
import sys
import time
import tomllib

import grpc
import grpc_cases
import http_cases
import memory_cases
import wire
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2 as pb

HERE = pathlib.Path(__file__).parent
RECORDED = HERE / "recorded"
# Fields that are measured, so that two runs of one server differ in them.
MEASURED = ("ns", "count", "last_inference", "inference_count", "execution_count", "byte_size", "inferenceCount", "executionCount", "lastInference")


def send_grpc(channel, case):
    stream = case["method"] == "ModelStreamInfer"
    path = f"/{grpc_cases.SERVICE}/{case['method']}"
    answer = getattr(pb, f"{case['method']}Response", None)
    answer = pb.ModelStreamInferResponse if stream else answer
    read = answer.FromString if answer else None
    try:
        if stream:
            # A message at a time: the order of answers to concurrent requests is nobody's promise.
            call = channel.stream_stream(path, response_deserializer=read)(iter(case["requests"]), metadata=case["metadata"], timeout=20)
            messages = [MessageToDict(message, preserving_proto_field_name=True) for message in call]
            messages.sort(key=lambda message: message.get("infer_response", {}).get("id", ""))
            return {"code": "OK", "messages": messages}
        call = channel.unary_unary(path, response_deserializer=read)
        message = call(case["requests"][0], metadata=case["metadata"], timeout=20)
        return {"code": "OK", "message": MessageToDict(message, preserving_proto_field_name=True)}
    except grpc.RpcError as error:
        return {"code": error.code().name, "details": error.details()}


def normal(value, key=""):
    """An answer without what is measured or in no order."""
    if isinstance(value, dict):
        # Which sizes of batches there were depends on what ran before.
        return {name: normal(item, name) for name, item in value.items() if name != "batch_stats"}
    if isinstance(value, list):
        items = [normal(item, key) for item in value]
        if items and all(isinstance(item, dict) and {"name"} <= item.keys() <= {"name", "version", "state", "reason"} for item in items):
            items.sort(key=lambda item: (item["name"], item.get("version", "")))
        return items
    if key in MEASURED and not isinstance(value, bool):
        return "measured"
    # Triton puts the caller's id, or that there is none, before some messages.
    return value.removeprefix("[request id: <id_unknown>] ") if isinstance(value, str) else value


class Server:
    """Where to ask; a Triton that we started is started again when a request has killed it."""

    def __init__(self, http, grpc_address, command=()):
        self.http, self.grpc_address, self.command = http, grpc_address, command
        self.process, self.channel = None, None
        self.start()

    def start(self):
        if self.command:
            self.process = subprocess.Popen(self.command, stdout=sys.stderr, stderr=sys.stderr)
            while wire.send_http(self.http, wire.http_case("", "GET", "/v2/health/ready"))["status"] != 200:
                if self.process.poll() is not None:
                    sys.exit("oracle: Triton does not start")
                time.sleep(0.2)
        if self.channel:
            self.channel.close()
        self.channel = grpc.insecure_channel(self.grpc_address)

    def stop(self):
        self.channel.close()
        if self.process:
            self.process.terminate()
            self.process.wait()

    def outcome(self, name, answer):
        """The answer, unless the server is no more."""
        if not self.process or answer.get("status", 0) or answer.get("code", "UNAVAILABLE") != "UNAVAILABLE":
            return answer
        time.sleep(0.5)
        if self.process.poll() is None:
            return answer
        print(f"oracle: {name} has killed Triton (signal {-self.process.returncode})")
        self.start()
        return {"died": True}


def all_http():
    return [*http_cases.cases(), *memory_cases.http()]


def all_grpc():
    return [*grpc_cases.cases(), *memory_cases.grpc()]


def ask(server):
    """All cases, in their order: some change what later ones see."""
    answers = {}
    with memory_cases.memory():
        for case in all_http():
            name = f"http {case['name']}"
            answers[name] = server.outcome(name, normal(wire.comparable(wire.send_http(server.http, case))))
    with memory_cases.memory():
        for case in all_grpc():
            name = f"grpc {case['name']}"
            answers[name] = server.outcome(name, normal(send_grpc(server.channel, case)))
    server.stop()
    return answers


def digest():
    """Says whether a recording answers the requests that are asked now."""
    asked = [[repr(sorted(case.items())) for case in cases] for cases in (all_http(), all_grpc())]
    return hashlib.sha256(repr(asked).encode()).hexdigest()


def record(answers):
    RECORDED.mkdir(exist_ok=True)
    groups = collections.defaultdict(dict)
    for name, answer in answers.items():
        groups[name.split()[0]][name] = answer
    for group, members in groups.items():
        lines = [f"{json.dumps(name)}: {json.dumps(answer, sort_keys=True)}" for name, answer in members.items()]
        (RECORDED / f"{group}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
    (RECORDED / "requests.sha256").write_text(digest() + "\n")
    print(f"oracle: {len(answers)} answers of Triton recorded")


def single(number):
    """A number as FP32 has it."""
    return struct.unpack("<f", struct.pack("<f", number))[0] if abs(number) < 3.4e38 else number


def differences(theirs, ours, path=""):
    """(path, theirs, ours) of every leaf that differs; a missing one is None."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in sorted(theirs.keys() | ours.keys()):
            yield from differences(theirs.get(key), ours.get(key), f"{path}.{key}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, (left, right) in enumerate(zip(theirs, ours)):
            yield from differences(left, right, f"{path}[{index}]")
    elif (theirs is None and ours == "measured") or (ours is None and theirs == "measured"):
        return  # gRPC leaves out what is 0.
    elif isinstance(theirs, float) and isinstance(ours, float) and single(theirs) == theirs and single(ours) == theirs:
        return  # The same FP32: Triton writes all its digits, we as many as it takes.
    elif theirs != ours or isinstance(theirs, bool) != isinstance(ours, bool):
        yield path.removeprefix("."), theirs, ours


def is_one_of(value, patterns):
    """Whether a value is in a list, in which texts are patterns with `*`."""
    return any(like(value, pattern) if isinstance(value, str) and isinstance(pattern, str) else value == pattern for pattern in patterns)


def like(text, pattern):
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


class Intended:
    """The differences that are meant, each with its reason. One that no answer shows any more is an error."""

    def __init__(self, text):
        rules = tomllib.loads(text)
        self.rules = rules["difference"] + rules.get("missing", [])
        # What is not served yet may be served tomorrow.
        self.checked = rules["difference"]
        for rule in self.rules:
            assert rule["reason"] and rule.keys() <= {"reason", "cases", "paths", "theirs", "ours"}, rule
            rule["used"] = set()

    def explains(self, name, path, theirs, ours):
        for rule in self.rules:
            if (
                any(like(name, pattern) for pattern in rule["cases"])
                and any(like(path, pattern) for pattern in rule["paths"])
                and ("theirs" not in rule or is_one_of(theirs, rule["theirs"]))
                and ("ours" not in rule or is_one_of(ours, rule["ours"]))
            ):
                rule["used"].update(pattern for pattern in rule["cases"] if like(name, pattern))
                return True
        return False

    def unused(self):
        return [(pattern, rule["reason"]) for rule in self.checked for pattern in rule["cases"] if pattern not in rule["used"]]


def compare(answers):
    if (RECORDED / "requests.sha256").read_text().strip() != digest():
        sys.exit("oracle: the recordings answer other requests: run `make oracle`")
    recorded = {}
    for file in sorted(RECORDED.glob("*.json")):
        recorded |= json.loads(file.read_text())
    intended = Intended((HERE / "intended.toml").read_text())
    failed, explained = 0, 0
    for name, theirs in recorded.items():
        unexplained = []
        found = list(differences(theirs, answers[name]))
        # An answer of another status is another answer in all.
        found = [each for each in found if each[0] in ("status", "code", "died")] or found
        for path, left, right in found:
            if intended.explains(name, path, left, right):
                explained += 1
            else:
                unexplained.append(f"    {path}\n      Triton: {json.dumps(left)}\n      we:     {json.dumps(right)}")
        if unexplained:
            failed += 1
            print(f"{name}\n" + "\n".join(unexplained))
    for pattern, reason in intended.unused():
        print(f"no answer differs as intended any more: {pattern} ({reason})")
        failed += 1
    print(f"oracle: {len(recorded)} answers compared with Triton's, {explained} intended differences, {failed} failures")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    command, *where = sys.argv[1:]
    {"record": record, "compare": compare}[command](ask(Server(where[0], where[1], where[2:])))
