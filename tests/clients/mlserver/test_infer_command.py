"""`mlserver infer`: a file of requests, one a line, is sent in batches, and the answers are written to another."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.clients.asked import ASKED, OUTPUTS, Array, Asked, check_alike
from tests.clients.support import Served

MLSERVER = Path(sys.executable).with_name("mlserver")
DTYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "BYTES": np.object_}
# What the command sends of texts is text: it can't send a picture's file.
TEXTUAL = [asked for asked in ASKED if asked.name != "image"]


def request_of(asked: Asked, rows: slice, **more: Any) -> dict[str, Any]:
    """A request for some of the rows."""
    array = asked.array[rows]
    data = [one.decode() if isinstance(one, bytes) else one for one in array.reshape(-1).tolist()]
    tensor = {"name": asked.name, "shape": list(array.shape), "datatype": asked.datatype, "data": data}
    return {"inputs": [tensor], **more}


def infer(served: Served, folder: Path, model: str, lines: list[Any], *options: str) -> list[dict[str, Any]]:
    """What is written for each line, in their order."""
    asked, answered = folder / "requests", folder / "answers"
    asked.write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = [MLSERVER, "infer", "-u", served.address, "-m", model, "-i", asked, "-o", answered, *options]
    done = subprocess.run(list(map(str, command)), check=False, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in answered.read_text().splitlines()]
    assert len(found) == len(lines)
    return sorted(found, key=lambda answer: answer["parameters"]["batch_index"])


def arrays(answer: dict[str, Any]) -> dict[str, Array]:
    """The tensors of a line; it writes all numbers with the type that they came as."""
    return {
        output["name"]: np.array(output["data"], DTYPES[output["datatype"]]).reshape(output["shape"])
        for output in answer["outputs"]
    }


@pytest.mark.parametrize("options", [(), ("-b",)], ids=["JSON", "binary"])
@pytest.mark.parametrize("asked", TEXTUAL, ids=[asked.model for asked in TEXTUAL])
def test_every_kind_of_input_is_answered_as_v1_answers_it(
    served: Served, tmp_path: Path, asked: Asked, options: tuple[str, ...]
) -> None:
    lines = [request_of(asked, slice(index, index + 1), id=f"row-{index}") for index in (0, 1)]
    for index, answer in enumerate(infer(served, tmp_path, asked.model, lines, *options)):
        assert (answer["model_name"], answer["model_version"]) == (asked.model, "1")
        assert answer["id"] == f"row-{index}"
        assert [output["name"] for output in answer["outputs"]] == OUTPUTS[asked.model]
        check_alike(arrays(answer), served.predict(asked.model, [asked.instances[index]]))


@pytest.mark.parametrize("options", [(), ("-b",)], ids=["JSON", "binary"])
def test_requests_travel_in_batches(served: Served, tmp_path: Path, options: tuple[str, ...]) -> None:
    rows = (np.arange(92, dtype=np.float32).reshape(23, 4) % 100).tolist()
    asked = Asked("sensors", rows, "input", "FP32", np.array(rows, np.float32))
    lines = [request_of(asked, slice(index, index + 1), id=str(index)) for index in range(23)]
    before = counted(served)
    answers = infer(served, tmp_path, "sensors", lines, "-s", "10", "-w", "2", *options)
    assert counted(served) - before == 3
    assert [answer["id"] for answer in answers] == [str(index) for index in range(23)]
    together = {name: np.concatenate([arrays(answer)[name] for answer in answers]) for name in OUTPUTS["sensors"]}
    check_alike(together, served.predict("sensors", rows))


def counted(served: Served) -> int:
    """Requests to `sensors` that were answered."""
    (found,) = served.request("GET", "/v2/models/sensors/stats").json()["model_stats"]
    count: int = found["inference_stats"]["success"]["count"]
    return count


def test_outputs_may_be_named(served: Served, tmp_path: Path) -> None:
    line = request_of(ASKED[0], slice(0, 2), outputs=[{"name": "label"}])
    (answer,) = infer(served, tmp_path, "mood", [line])
    assert [output["name"] for output in answer["outputs"]] == ["label"]


def test_lines_that_go_wrong_are_told_from_those_that_do_not(served: Served, tmp_path: Path) -> None:
    good = request_of(ASKED[0], slice(0, 1))
    wrong = {"inputs": [{"name": "text", "shape": [1, 1], "datatype": "BYTES", "data": [" "]}]}
    first, second, third = infer(served, tmp_path, "mood", [good, wrong, good], "-r", "1")
    assert "the text is empty" in second["error"]["msg"]
    for answer in (first, third):
        check_alike(arrays(answer), served.predict("mood", ASKED[0].instances[:1]))


def test_a_model_that_isnt_there(served: Served, tmp_path: Path) -> None:
    (answer,) = infer(served, tmp_path, "nobody", [request_of(ASKED[0], slice(0, 1))], "-r", "1")
    assert "there is no model named 'nobody'" in answer["error"]["msg"]
