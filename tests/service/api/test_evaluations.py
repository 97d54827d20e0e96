"""Offline evaluation over HTTP, with an engine that always takes a row for the last label."""

import json
from typing import Any

import httpx
import numpy as np
import pytest

from service.domain import Ref
from service.errors import LoopUnavailable, PredictionFailed, QueueFull
from service.learning import judging
from service.registry.catalog import Catalog
from service.store.base import Filters
from tests.checkpoints import CLOTHES
from tests.service.api.support import MAX_ROWS, CountingEngine
from tests.service.api.support import problem_of as any_problem_of
from tests.stores import OpenStore, open_seen

URL = "/v1/models/clothes/evaluations"
PICTURES = [np.full((28, 28), index).tolist() for index in range(20)]
LAST, FIRST = CLOTHES[-1], CLOTHES[0]
LABELS = [LAST] * 15 + [FIRST] * 5
ROWS = {"instances": PICTURES, "labels": LABELS}
LINES = {"Content-Type": "application/x-ndjson"}


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, catalog: Catalog) -> OpenStore:
    """Of each test's own, with every version seen."""
    return open_seen(tmp_path_factory.mktemp("store"), catalog)


def problem_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    return any_problem_of(response)


def lines(labels: list[Any] = LABELS) -> bytes:
    rows = ({"instance": picture, "label": label} for picture, label in zip(PICTURES, labels, strict=True))
    return b"\n".join(json.dumps(row).encode() for row in rows)


async def test_a_version_is_measured_on_rows_that_are_sent(
    client: httpx.AsyncClient, engine: CountingEngine, store: OpenStore
) -> None:
    response = await client.post(URL, json={**ROWS, "name": "by hand"})
    assert response.status_code == 201, response.text
    report = response.json()
    assert response.headers["location"] == f"{URL}/{report['id']}"
    assert (report["model"], report["dataset"], report["rows"], report["failed_rows"]) == ("clothes", "by hand", 20, 0)
    [version] = report["versions"]
    assert (version["version"], version["n"]) == ("1", 20)
    assert version["metrics"]["accuracy"]["value"] == 0.75
    counts = np.array(version["confusion_matrix"]["counts"])
    assert (counts[-1, -1], counts[0, -1], counts.sum()) == (15, 5, 20)
    assert report["comparison"] is None
    assert (await client.get(response.headers["location"])).json() == report
    assert [call.priority for call in engine.calls] == [9] * -(-20 // MAX_ROWS)
    assert store.predictions.list(Filters(), limit=10).records == []


async def test_rows_may_come_one_a_line(client: httpx.AsyncClient) -> None:
    response = await client.post(URL, content=lines(), headers=LINES, params={"version": 2, "name": "a file"})
    assert response.status_code == 201, response.text
    report = response.json()
    assert (report["dataset"], report["rows"], report["versions"][0]["version"]) == ("a file", 20, "2")
    assert report["versions"][0]["metrics"]["accuracy"]["value"] == 0.75


async def test_the_same_rows_have_the_same_digest(client: httpx.AsyncClient) -> None:
    digests = [(await client.post(URL, content=lines(), headers=LINES)).json()["digest"] for _ in range(2)]
    other = (await client.post(URL, content=lines([FIRST] * 20), headers=LINES)).json()["digest"]
    assert digests[0] == digests[1] != other


async def test_two_versions_are_compared_on_the_same_rows(client: httpx.AsyncClient, engine: CountingEngine) -> None:
    report = (await client.post(URL, json={**ROWS, "version": "2", "against": "1"})).json()
    assert [one["version"] for one in report["versions"]] == ["1", "2"]
    compared = report["comparison"]
    assert (compared["rows"], compared["p_value"], compared["winner"]) == (20, 1.0, None)
    assert compared["differences"]["accuracy"]["value"] == 0.0
    assert "No difference" in compared["verdict"]
    assert {call.ref.version for call in engine.calls} == {1, 2}


async def test_how_far_it_is_is_told_where_that_is_asked_for(client: httpx.AsyncClient) -> None:
    response = await client.post(URL, json=ROWS, headers={"Accept": "application/x-ndjson"})
    assert (response.status_code, response.headers["content-type"]) == (201, "application/x-ndjson")
    told = [json.loads(line) for line in response.text.splitlines()]
    assert told[0] == {"done": 8, "rows": 20}
    assert [one["done"] for one in told[:-1]] == [8, 16, 20]
    assert told[-1]["report"]["rows"] == 20


async def test_what_goes_wrong_on_the_way_is_told_too(
    client: httpx.AsyncClient, engine: CountingEngine, store: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise LoopUnavailable

    monkeypatch.setattr(type(store), "judge", away)
    response = await client.post(URL, json=ROWS, headers={"Accept": "application/x-ndjson"})
    assert json.loads(response.text.splitlines()[-1])["error"]["type"] == "loop_unavailable"
    assert (await client.post(URL, json=ROWS)).status_code == 503
    assert (await client.get(URL)).json() == {"evaluations": [], "next_cursor": None}


async def test_what_was_found_is_listed_the_newest_first(client: httpx.AsyncClient) -> None:
    for name, version in (("first", "1"), ("second", "2"), ("third", "1")):
        await client.post(URL, json={**ROWS, "name": name, "version": version})
    page = (await client.get(URL, params={"limit": 2})).json()
    assert [one["dataset"] for one in page["evaluations"]] == ["third", "second"]
    rest = (await client.get(URL, params={"limit": 2, "cursor": page["next_cursor"]})).json()
    assert ([one["dataset"] for one in rest["evaluations"]], rest["next_cursor"]) == (["first"], None)
    page = (await client.get(URL, params={"version": 2})).json()
    assert [one["dataset"] for one in page["evaluations"]] == ["second"]


async def test_there_is_room_for_everybody_else(
    client: httpx.AsyncClient, engine: CountingEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "_PAUSE_SECONDS", 0.0)
    full = [QueueFull(Ref("clothes", 1), 1, 1) for _ in range(3)]
    infer = engine.infer

    async def busy(*arguments: Any) -> Any:
        if full:
            raise full.pop()
        return await infer(*arguments)

    monkeypatch.setattr(engine, "infer", busy)
    assert (await client.post(URL, json=ROWS)).json()["rows"] == 20
    assert not full


async def test_rows_on_which_the_network_fails_are_counted_apart(
    client: httpx.AsyncClient, engine: CountingEngine
) -> None:
    engine.failures = {1: "not a number"}
    report = (await client.post(URL, json=ROWS)).json()
    assert (report["rows"], report["failed_rows"], report["versions"][0]["n"]) == (20, 3, 17)
    engine.error = PredictionFailed(Ref("clothes", 1), "not a number")
    problem = problem_of(await client.post(URL, json=ROWS), 422)
    assert "the network failed on every row" in problem["detail"]


@pytest.mark.parametrize("model", ["mood", "rent", "sensors", "motion", "thumbnails"])
async def test_every_task_is_measured(client: httpx.AsyncClient, catalog: Catalog, model: str) -> None:
    manifest = catalog.models[model].example.manifest
    contract = manifest.input
    shape = [4 if size == -1 else size for size in getattr(contract, "shape", [])]
    row = "good" if contract.kind == "text" else np.ones(shape or [len(contract.names)]).tolist()  # type: ignore[union-attr]
    label = {"regression": 3.5, "multilabel": list(manifest.labels[:1])}.get(
        manifest.task, (manifest.labels or [""])[0]
    )
    response = await client.post(
        f"/v1/models/{model}/evaluations", json={"instances": [row] * 3, "labels": [label] * 3}
    )
    if manifest.task == "embedding":
        problem_of(response, 501)
        return
    assert response.status_code == 201, response.text
    report = response.json()
    document = (await client.get("/openapi.json")).json()["components"]["schemas"]
    assert set(document["EvaluationReport"]["required"]) <= report.keys()
    assert report["versions"][0].keys() <= document["VersionReport"]["properties"].keys()
    assert report["versions"][0]["n"] == 3


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"instances": PICTURES, "labels": LABELS[:3]}, "labels"),
        ({"instances": PICTURES}, "body"),
        ({"labels": LABELS}, "body"),
        ({}, "body"),
        ({**ROWS, "dataset": "held-out"}, "body"),
        ({"dataset": "unheard-of"}, "body.dataset"),
        ({"instances": PICTURES, "labels": [*LABELS[:19], "hat"]}, "labels[19]"),
        ({"instances": [*PICTURES[:19], [[1]]], "labels": LABELS}, "instances[19]"),
        ({"instances": "many", "labels": LABELS}, "instances"),
        ({**ROWS, "version": "one"}, "body.version"),
        ({**ROWS, "against": "1"}, "against"),
        ({**ROWS, "more": 1}, "body.more"),
        ({"instances": [], "labels": []}, "instances"),
        ([], "body"),
    ],
)
async def test_what_is_wrong_is_said_with_its_place(client: httpx.AsyncClient, body: Any, field: str) -> None:
    problem = problem_of(await client.post(URL, json=body), 422)
    assert problem["field"] == field


@pytest.mark.parametrize(
    ("line", "status", "field"),
    [
        (b"{", 400, "line 3"),
        (b'{"instance": [[1]]}', 422, "line 3"),
        (b"[]", 422, "line 3"),
        (json.dumps({"instance": PICTURES[0], "label": "hat"}).encode(), 422, "labels[2]"),
        (json.dumps({"instance": [[1]], "label": LAST}).encode(), 422, "instances[2]"),
    ],
)
async def test_what_is_wrong_in_a_line_is_said_with_its_number(
    client: httpx.AsyncClient, line: bytes, status: int, field: str
) -> None:
    good = lines().split(b"\n")[:2]
    problem = problem_of(await client.post(URL, content=b"\n".join([*good, line]), headers=LINES), status)
    assert problem["field"] == field


@pytest.mark.parametrize("query", ["version=999&against=5&name=zz", "name=zz"])
async def test_a_query_beside_a_document_is_refused(client: httpx.AsyncClient, query: str) -> None:
    problem = problem_of(await client.post(f"{URL}?{query}", json=ROWS), 422)
    name = query.partition("=")[0]
    assert (problem["field"], problem["expected"]) == (f"query.{name}", f'"{name}" in the body')
    assert "beside a JSON body no query is read" in problem["detail"]


async def test_what_is_said_is_said_in_our_words(client: httpx.AsyncClient) -> None:
    problem = problem_of(await client.post(URL, json={}), 422)
    assert problem["detail"].startswith("body: either instances and labels, or dataset")


async def test_a_number_may_be_a_label_if_its_square_is_one(client: httpx.AsyncClient) -> None:
    for label, status in ((1e100, 201), (-1.1e100, 422), (1e200, 422)):
        body = {"instances": [{"columns": {"area": 1, "rooms": 1}}], "labels": [label]}
        response = await client.post("/v1/models/rent/evaluations", json=body)
        assert response.status_code == status, response.text


async def test_what_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    problem_of(await client.post("/v1/models/hats/evaluations", json=ROWS), 404)
    problem_of(await client.post(URL, json={**ROWS, "version": "9"}), 404)
    for report in ("0199", "%00", "a%00b", "00000000-0000-7000-8000-000000000000"):
        assert problem_of(await client.get(f"{URL}/{report}"), 404)["type"].endswith(":unknown-report")
    assert problem_of(await client.get("/v1/models/nope/evaluations/x"), 404)["type"].endswith(":unknown-model")
    report = (await client.post(URL, json=ROWS)).json()
    problem_of(await client.get(f"/v1/models/mood/evaluations/{report['id']}"), 404)
    problem_of(await client.get(URL, params={"cursor": "x"}), 422)


async def test_a_checkpoint_without_held_out_rows_says_so(client: httpx.AsyncClient) -> None:
    problem = problem_of(await client.post(URL, json={"dataset": "held-out"}), 501)
    assert "has no evaluation.npz" in problem["detail"]


async def test_other_content_types_are_not_read(client: httpx.AsyncClient) -> None:
    problem_of(await client.post(URL, content=b"x", headers={"Content-Type": "text/csv"}), 415)
    problem_of(await client.post(URL, content=b"{", headers={"Content-Type": "application/json"}), 400)
