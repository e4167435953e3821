"""Requests as bytes, and answers as something that can be compared."""

import gzip
import http.client
import json
import struct
import zlib

# Headers of an answer that are part of the contract. The rest (date, server, lengths) is the server's own.
HEADERS = ("content-type", "inference-header-content-length", "content-encoding", "accept-encoding", "allow")


def http_case(name, method, path, body=b"", headers=None):
    if isinstance(body, (dict, list)):
        body = json.dumps(body).encode()
    if isinstance(body, str):
        body = body.encode()
    return {"name": name, "method": method, "path": path, "body": body, "headers": headers or {}}


def binary(request, *parts):
    """An inference request with tensors behind the JSON: the body, and the header that says where they begin."""
    head = json.dumps(request).encode()
    return head + b"".join(parts), {"Inference-Header-Content-Length": str(len(head))}


def strings(*items):
    """A BYTES tensor as it travels."""
    return b"".join(struct.pack("<I", len(item)) + item for item in items)


def send_http(address, case):
    """The answer to one HTTP request, on a connection of its own."""
    host, port = address.rsplit(":", 1)
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.putrequest(case["method"], case["path"], skip_accept_encoding=True)
        headers = dict(case["headers"])
        if case["method"] not in ("GET", "HEAD") or case["body"]:
            if "Transfer-Encoding" not in headers:
                headers.setdefault("Content-Length", str(len(case["body"])))
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        connection.send(case["body"])
        answer = connection.getresponse()
        body = answer.read()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        return {"status": answer.status, "headers": headers, "body": body}
    except (ConnectionError, http.client.HTTPException, TimeoutError) as error:
        return {"status": 0, "headers": {}, "body": type(error).__name__.encode()}
    finally:
        connection.close()


def unpacked(body, encoding):
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "deflate":
        return zlib.decompress(body)
    return body


def comparable(answer):
    """An answer as JSON: status, the headers of the contract, the body as far as it can be understood."""
    headers = {name: answer["headers"][name] for name in HEADERS if name in answer["headers"]}
    try:
        body = unpacked(answer["body"], headers.get("content-encoding"))
    except (OSError, zlib.error):
        body = answer["body"]
    result = {"status": answer["status"], "headers": headers}
    split = headers.pop("inference-header-content-length", None)
    if headers.get("content-type", "").startswith("text/event-stream"):
        return result | {"events": [json_or_text(event.removeprefix(b"data:").strip()) for event in body.split(b"\n\n") if event]}
    if split is None:
        return result | {"body": json_or_text(body)}
    # Where the JSON ends depends on its spaces; what counts is that it does end there.
    split = int(split)
    return result | {"body": json_or_text(body[:split]), "binary": body[split:].hex()}


def json_or_text(body):
    if not body:
        return None
    try:
        return json.loads(body)
    except ValueError:
        return {"text": body.decode("utf-8", "replace").strip()}
