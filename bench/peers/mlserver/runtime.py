"""A custom runtime of MLServer: bodies and answers are the one string of a V2 request, so that its adaptive batching
can merge them."""

from mlserver import MLModel
from mlserver.codecs import StringCodec
from mlserver.types import InferenceResponse

from pipeline import Pipeline


class Predict(MLModel):
    async def load(self):
        self.pipeline = Pipeline()
        return True

    async def predict(self, payload):
        bodies = StringCodec.decode_input(payload.inputs[0])
        answers = [answer.decode() for answer in self.pipeline.batch_bytes(bodies)]
        output = StringCodec.encode_output("answer", answers, use_bytes=False)
        return InferenceResponse(model_name=self.name, outputs=[output])
