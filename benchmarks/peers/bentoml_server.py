"""BentoML as its documentation has it: a service class with a batchable API."""

import base64
import os
import sys
from pathlib import Path
from typing import Any

import bentoml
import numpy as np

from benchmarks.peers.network import MAX_BATCH, Model, option, port, workers

# A total budget, not a wait: what BentoML expects to miss it is refused.
_BUDGET_MS = 10_000


@bentoml.service(workers=workers(), traffic={"timeout": 60})
class Network:
    def __init__(self) -> None:
        self.model = Model()

    if option("FORMAT") == "json":

        @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=_BUDGET_MS)
        def predict(self, rows: np.ndarray) -> list[dict[str, Any]]:
            # BentoML reads the annotation, and takes a parameter of it for a dtype.
            return self.model.predict([self.model.from_lists(row) for row in rows])

    else:

        @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=_BUDGET_MS)
        def predict(self, rows: list[str]) -> list[dict[str, Any]]:
            return self.model.predict([self.model.from_bytes(base64.b64decode(row)) for row in rows])


if __name__ == "__main__":
    os.chdir(Path(__file__).parent)
    os.environ["BENTOML_HOME"] = option("HOME")
    os.environ["BENTOML_DO_NOT_TRACK"] = "True"
    command = str(Path(sys.executable).parent / "bentoml")
    where = ["--host", "127.0.0.1", "--port", str(port())]
    os.execv(command, [command, "serve", "benchmarks.peers.bentoml_server:Network", *where])
