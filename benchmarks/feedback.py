"""What feedback and live evaluation take: `python -m benchmarks.feedback [--rows N] [--postgres] [--json FILE]`.

- `ingest`: durable feedback a second by a real service, as lines in large bodies, and as single posts over 64
  connections (wrk), on predictions that are known.
- `evaluation`: how long the loop process takes to read so many labelled predictions at its start, what it weighs then,
  and how long an answer takes over HTTP: while nothing changes, and when a label has just come.
"""

import argparse
import base64
import contextlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from rich.console import Console
from uuid_utils import uuid7

from benchmarks.report import keep, progress, show
from service.settings import Settings
from service.store.base import Record
from service.store.databases import Location
from service.store.feedback import FeedbackEvent
from tests import postgres
from tests.end_to_end.service import Homes, Service, until
from tests.stores import OpenStore, open_store

_GROUP = 1_000
_ASKED = 40
_CONNECTIONS, _SECONDS = 64, 10
_LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
# One post a prediction, in its own order on every thread.
_LUA = """
local ids = {{}}
for line in io.lines("{ids}") do ids[#ids + 1] = line end
local at = math.random(#ids)
request = function()
  at = at % #ids + 1
  local body = '{{"prediction_id": "' .. ids[at] .. '", "label": "Bag"}}'
  return wrk.format("POST", "/v1/feedback", {{["Content-Type"] = "application/json"}}, body)
end
"""


def records(count: int, made: float) -> list[Record]:
    """Predictions of the model fashion, with probabilities as it gives them, made in the last day before `made`."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([0.1] * len(_LABELS), count).astype("<f4")
    times = made - rng.uniform(0, 86_000, count)
    return [
        Record(
            str(uuid7(nanoseconds=int(at * 1000) * 1_000_000)),
            "fashion",
            1,
            "d" * 64,
            {"label": _LABELS[index], "index": index, "probability": float(row[index])},
            0.002,
            "anonymous",
            "request-1",
            {},
            scores=base64.b64encode(row.tobytes()).decode(),
        )
        for row, at in zip(probabilities, times.tolist(), strict=True)
        for index in [int(row.argmax())]
    ]


def events(those: list[Record], now: float) -> list[FeedbackEvent]:
    """That four of five were right."""
    rng = np.random.default_rng(1)
    right = rng.random(len(those)) < 0.8
    milliseconds = int(now * 1000)
    return [
        FeedbackEvent(
            str(uuid7()),
            one.id,
            None,
            None,
            "label",
            one.outputs["label"] if is_right else _LABELS[int(rng.integers(len(_LABELS)))],
            "user",
            1,
            None,
            "anonymous",
            milliseconds,
            milliseconds,
        )
        for one, is_right in zip(those, right, strict=True)
    ]


def fill(store: OpenStore, count: int, labelled: int, console: Console) -> list[Record]:
    """Write predictions, and feedback on some of them, as the recorder does; those without."""
    now = time.time()
    with progress(console, (count + labelled) // _GROUP) as step:
        made = records(count, now)
        for start in range(0, count, _GROUP):
            store.predictions.append(made[start : start + _GROUP])
            step("predictions")
        contracts = store.control.contracts()
        said = events(made[:labelled], now)
        for start in range(0, labelled, _GROUP):
            store.feedback.add(said[start : start + _GROUP], contracts)
            step("labels")
    return made[labelled:]


def ingest(service: Service, known: list[Record]) -> list[dict[str, Any]]:
    """Durable feedback a second."""
    lines = [orjson.dumps({"prediction_id": one.id, "label": "Bag"}) for one in known]
    began = time.monotonic()
    answer = service.client.post(
        "/v1/feedback?results=problems",
        content=b"\n".join(lines),
        headers={"Content-Type": "application/x-ndjson"},
        timeout=600,
    ).json()
    seconds = time.monotonic() - began
    assert answer["accepted"] == len(lines), answer
    with tempfile.TemporaryDirectory() as folder:
        ids, script = Path(folder) / "ids", Path(folder) / "post.lua"
        ids.write_text("\n".join(one.id for one in known))
        script.write_text(_LUA.format(ids=ids))
        said = service.metric("servoloop_feedback_events_total", outcome="joined")
        subprocess.run(
            ["wrk", "-t1", f"-c{_CONNECTIONS}", f"-d{_SECONDS}s", "-s", str(script), service.url],
            check=True,
            capture_output=True,
        )
        posts = service.metric("servoloop_feedback_events_total", outcome="joined") - said
    return [
        {"feedback": "lines", "rows": len(lines), "a second": len(lines) / seconds},
        {"feedback": f"single posts, {_CONNECTIONS} connections", "rows": int(posts), "a second": posts / _SECONDS},
    ]


def answers(service: Service, known: list[Record], labelled: int) -> dict[str, Any]:
    """How long evaluations take, in milliseconds."""
    path = "/v1/models/fashion/evaluation?window=2d"
    began = time.monotonic()
    found = until(lambda: _answer(service, path), "it answers", 600)
    first = time.monotonic() - began
    assert found["n"] >= labelled
    still, changing = [], []
    for one in known[:_ASKED]:
        still.append(_timed(service, path))
        service.client.post("/v1/feedback", json={"prediction_id": one.id, "label": "Bag"})
        changing.append(_timed(service, path))
    memory = Path(f"/proc/{service.child('loop')}/statm").read_text().split()
    return {
        "labelled": found["n"],
        "first answer, s": first,
        "p50 ms": 1000 * statistics.median(still),
        "p95 ms": 1000 * float(np.quantile(still, 0.95)),
        "p50 ms, after a label": 1000 * statistics.median(changing),
        "p95 ms, after a label": 1000 * float(np.quantile(changing, 0.95)),
        "MB of the loop process": int(memory[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6,
    }


def _answer(service: Service, path: str) -> dict[str, Any] | None:
    response = service.client.get(path)
    return response.json() if response.status_code == 200 else None


def _timed(service: Service, path: str) -> float:
    began = time.monotonic()
    assert service.client.get(path).status_code == 200
    return time.monotonic() - began


@contextlib.contextmanager
def _settings(use_postgres: bool) -> Iterator[dict[str, Any]]:
    with contextlib.ExitStack() as stack:
        yield {"store_url": stack.enter_context(postgres.server())} if use_postgres else {}


def main() -> None:
    """Measure and print; with --json also keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="labelled predictions")
    parser.add_argument("--postgres", action="store_true", help="with the store in PostgreSQL")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    console = Console()
    homes = Homes()
    home = homes()
    try:
        with _settings(arguments.postgres) as settings:
            with Service(home, **settings) as service:
                service.wait_ready()  # makes the tables, and tells the store of the models
            location = Location.of(Settings(data_dir=home / "data", **settings))
            store = open_store(location)
            others = fill(store, arguments.rows + 60_000, arguments.rows, console)
            store.close()
            with Service(home, **settings) as service:
                service.wait_ready()
                evaluation = answers(service, others[-_ASKED:], arguments.rows)
                ingested = ingest(service, others[:50_000])
    finally:
        homes.remove()
    store_name = "postgresql" if arguments.postgres else "sqlite"
    show(console, f"ingest, {store_name}", ingested)
    show(console, f"evaluation, {store_name}", [evaluation])
    keep(
        arguments.json,
        "python -m benchmarks.feedback",
        quick=False,
        store=store_name,
        ingest=ingested,
        evaluation=evaluation,
    )


if __name__ == "__main__":
    main()
