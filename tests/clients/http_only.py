"""Checks of what only the HTTP client has, and of what people post by hand."""

import json

import numpy as np
import tritonclient.http as httpclient
import urllib3
from checks import check

POOL = urllib3.PoolManager()


def post(api, path, body, headers=None):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return POOL.request("POST", f"http://{address(api)}{path}", body=body, headers=headers or {}, retries=False, timeout=20)


def address(api):
    return f"{api.client._parsed_url.host}:{api.client._parsed_url.port}"


@check
def a_body_made_apart_from_the_client(api):
    body, size = httpclient.InferenceServerClient.generate_request_body([api.input("INPUT0", np.ones((1, 3), np.float32))])
    answer = post(api, "/v2/models/identity_fp32/infer", body, {"Inference-Header-Content-Length": str(size)})
    length = answer.headers.get("Inference-Header-Content-Length")
    result = httpclient.InferenceServerClient.parse_response_body(answer.data, header_length=length and int(length))
    assert (result.as_numpy("OUTPUT0") == 1).all()


@check
def parameters_in_the_query(api):
    api.client.infer("identity_fp32", [api.input("INPUT0", np.ones((1, 3), np.float32))], query_params={"a": "b", "c": ["d", 1]})


@check
def generate(api):
    answer = post(api, "/v2/models/generate/generate", {"text_input": "hello", "temperature": 0.5})
    assert answer.status == 200 and answer.json()["text_output"] == "hello", answer.data


@check
def generate_stream(api):
    answer = post(api, "/v2/models/generate/generate_stream", {"text_input": "hello"})
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/event-stream"), answer.headers
    events = [json.loads(event.removeprefix(b"data:")) for event in answer.data.split(b"\n\n") if event]
    assert [event["text_output"] for event in events] == ["hello"], answer.data


@check
def raw_bytes(api):
    answer = post(api, "/v2/models/bytes_nobatch/infer", b"any bytes \xff", {"Inference-Header-Content-Length": "0"})
    assert answer.status == 200, answer.data
    assert answer.data[int(answer.headers["Inference-Header-Content-Length"]) + 4 :] == b"any bytes \xff"
