"""LitServe: a web process in front, and one process with the model for each path, which batches."""

import sys

import litserve

from pipeline import MAX_BATCH, PIPELINES, Pipeline


class Predict(litserve.LitAPI):
    def setup(self, device):
        self.pipeline = Pipeline()

    def decode_request(self, request):
        return request

    def batch(self, inputs):
        return inputs

    def predict(self, inputs):
        return self.pipeline.batch(inputs) if isinstance(inputs, list) else self.pipeline.batch([inputs])[0]

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    apis = [
        Predict(max_batch_size=MAX_BATCH[name], batch_timeout=0.001, api_path=f"/{name}") for name in PIPELINES
    ]
    server = litserve.LitServer(apis, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False,
               access_log=False)
