"""What clients of TensorFlow Serving's REST interface send: rows, columns, status and metadata.

    tfserving.py ADDRESS
"""

import base64
import json
import sys

import urllib3
from checks import check, run

POOL = urllib3.PoolManager()
RANGE = list(range(16))
ONES = [1] * 16


class Api:
    def __init__(self, address):
        self.url = f"http://{address}/v1/models"

    def predict(self, model, body, status=200):
        answer = POOL.request("POST", f"{self.url}/{model}:predict", body=json.dumps(body), retries=False, timeout=20)
        assert answer.status == status, (answer.status, answer.data)
        return answer.json()

    def get(self, path, status=200):
        answer = POOL.request("GET", f"{self.url}/{path}", retries=False, timeout=20)
        assert answer.status == status, (answer.status, answer.data)
        return answer.json()


@check
def rows(api):
    answer = api.predict("identity_fp32", {"instances": [[1.0, 2.0], [3.0, 4.0]]})
    assert answer == {"predictions": [[1.0, 2.0], [3.0, 4.0]]}, answer
    answer = api.predict("simple", {"signature_name": "serving_default", "instances": [{"INPUT0": RANGE, "INPUT1": ONES}] * 2})
    assert len(answer["predictions"]) == 2 and answer["predictions"][1]["OUTPUT0"] == [n + 1 for n in RANGE], answer


@check
def columns(api):
    answer = api.predict("identity_fp32", {"inputs": [[1.0, 2.0], [3.0, 4.0]]})
    assert answer == {"outputs": [[1.0, 2.0], [3.0, 4.0]]}, answer
    answer = api.predict("simple", {"inputs": {"INPUT0": [RANGE], "INPUT1": [ONES]}})
    assert answer["outputs"]["OUTPUT1"] == [[n - 1 for n in RANGE]], answer


@check
def bytes_in_base64(api):
    answer = api.predict("simple_identity", {"instances": [[{"b64": base64.b64encode(b"abc").decode()}, "text"]]})
    assert answer["predictions"] == [["abc", "text"]], answer


@check
def versions(api):
    assert api.predict("versions/versions/1", {"instances": [[5]]}) == {"predictions": [[5]]}
    assert api.predict("versions", {"instances": [[5]]}) == {"predictions": [[15]]}
    assert "error" in api.predict("versions/versions/2", {"instances": [[5]]}, 404)


@check
def status(api):
    for path in ("simple", "simple/versions/1"):
        states = api.get(path)["model_version_status"]
        assert [(one["version"], one["state"], one["status"]["error_code"]) for one in states] == [("1", "AVAILABLE", "OK")], states
    assert "error" in api.get("nobody", 404)


@check
def metadata(api):
    answer = api.get("simple/metadata")
    signature = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert answer["model_spec"]["name"] == "simple" and set(signature["inputs"]) == {"INPUT0", "INPUT1"}, answer
    assert signature["inputs"]["INPUT0"]["dtype"] == "DT_INT32", signature


@check
def errors(api):
    for body in ({}, {"instances": []}, {"instances": [[1.0], [1.0, 2.0]]}, {"instances": 7}, {"inputs": {"NOBODY": [1]}}, {"instances": [[1.0]], "inputs": [[1.0]]}):
        assert "error" in api.predict("identity_fp32", body, 400), body
    assert "error" in api.predict("nobody", {"instances": [[1.0]]}, 404)


if __name__ == "__main__":
    sys.exit(run("TensorFlow Serving REST", Api(sys.argv[1])) > 0)
