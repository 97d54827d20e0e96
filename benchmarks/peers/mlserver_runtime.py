"""What MLServer runs: rows as tensors of the Open Inference Protocol, or as base64 of their bytes."""

import json

from mlserver import MLModel
from mlserver.codecs import Base64Codec, NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.network import Model


class Network(MLModel):
    async def load(self) -> bool:
        self.network = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = payload.inputs[0]
        if rows.datatype == "BYTES":
            decoded = [self.network.from_bytes(row) for row in Base64Codec.decode_input(rows)]
        else:
            decoded = [self.network.from_lists(row) for row in NumpyCodec.decode_input(rows)]
        answers = [json.dumps(answer) for answer in self.network.predict(decoded)]
        return InferenceResponse(model_name=self.name, outputs=[StringCodec.encode_output("answer", answers)])
