#!/usr/bin/env bash
# Proves that our .proto files say the same as the descriptors that the official client ships: every message, field,
# number, type, enumeration and method, both ways.
set -euo pipefail
cd "$(dirname "$0")/.."

python=$(scripts/python-venv.sh tests/oracle/requirements.lock)
"$python" - gateway/server/proto/descriptors.bin <<'COMPARE'
import sys

from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2


def facts(file):
    """Everything in a file that matters on the wire or in JSON."""
    found = set()

    def enum(scope, descriptor):
        for value in descriptor.value:
            found.add((f"{scope}.{descriptor.name}", value.name, value.number))

    def message(scope, descriptor):
        name = f"{scope}.{descriptor.name}"
        found.add((name, "message", descriptor.options.map_entry))
        for field in descriptor.field:
            choice = ""
            if field.HasField("oneof_index"):
                choice = descriptor.oneof_decl[field.oneof_index].name
            found.add((name, field.name, field.number, field.type, field.label, field.type_name, choice))
        for nested in descriptor.nested_type:
            message(name, nested)
        for nested in descriptor.enum_type:
            enum(name, nested)

    for descriptor in file.message_type:
        message(file.package, descriptor)
    for descriptor in file.enum_type:
        enum(file.package, descriptor)
    for service in file.service:
        for method in service.method:
            found.add(
                (
                    f"{file.package}.{service.name}",
                    method.name,
                    method.input_type,
                    method.output_type,
                    method.client_streaming,
                    method.server_streaming,
                )
            )
    return found


ours = descriptor_pb2.FileDescriptorSet()
with open(sys.argv[1], "rb") as file:
    ours.ParseFromString(file.read())
ours = {file.name: facts(file) for file in ours.file}
failed = False
for module in (service_pb2, model_config_pb2):
    theirs = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(theirs)
    difference = ours[theirs.name] ^ facts(theirs)
    for fact in sorted(difference, key=str):
        print("ours" if fact in ours[theirs.name] else "theirs", *fact)
    failed |= bool(difference)
    print(f"{theirs.name}: {len(ours[theirs.name])} facts compared")
sys.exit(failed)
COMPARE
