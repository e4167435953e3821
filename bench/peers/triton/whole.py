"""A model of Triton's Python backend that does all of a pipeline: JSON in, JSON out, one model run for each batch."""

import numpy as np
import triton_python_backend_utils as pb_utils

from pipeline import Pipeline


class TritonPythonModel:
    def initialize(self, args):
        self.pipeline = Pipeline()

    def execute(self, requests):
        bodies = [
            pb_utils.get_input_tensor_by_name(request, "body").as_numpy().reshape(-1)[0] for request in requests
        ]
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("answer", np.array([[answer]], dtype=np.object_))]
            )
            for answer in self.pipeline.batch_bytes(bodies)
        ]
