from collections.abc import Iterator
from typing import Any

import httpx
import pytest

PREDICT = [
    "/v1/models/{model}/predict",
    "/v1/models/{model}/versions/{version}/predict",
    "/v1/models/{model}/aliases/{alias}/predict",
]


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    response = await client.get("/openapi.json")
    assert response.status_code == 200
    body: dict[str, Any] = response.json()
    return body


def references(node: Any) -> Iterator[str]:
    match node:
        case dict():
            if isinstance(node.get("$ref"), str):
                yield node["$ref"]
            for value in node.values():
                yield from references(value)
        case list():
            for value in node:
                yield from references(value)


async def test_the_document_holds_everything_that_it_refers_to(document: dict[str, Any]) -> None:
    assert document["openapi"].startswith("3.1")
    for reference in set(references(document)):
        node: Any = document
        assert reference.startswith("#/")
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]


@pytest.mark.parametrize("path", PREDICT)
async def test_a_predict_route_shows_every_body_it_takes(document: dict[str, Any], path: str) -> None:
    operation = document["paths"][path]["post"]
    assert operation["requestBody"]["required"] is True
    assert list(operation["requestBody"]["content"]) == [
        "application/json",
        "text/plain",
        "application/x-npy",
        "image/png",
        "image/jpeg",
        "image/webp",
    ]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["instances"]
    assert schema["properties"]["parameters"]["properties"].keys() == {
        "top_k",
        "return_probabilities",
        "timeout_ms",
        "key",
        "tags",
        "external_ids",
        "priority",
    }


@pytest.mark.parametrize("path", PREDICT)
async def test_a_predict_route_shows_every_status_it_may_answer(document: dict[str, Any], path: str) -> None:
    responses = document["paths"][path]["post"]["responses"]
    assert responses.keys() == {"200", "400", "404", "408", "413", "415", "422", "500", "503", "504"}
    for status, response in responses.items():
        expected = "application/json" if status == "200" else "application/problem+json"
        assert list(response["content"]) == [expected]


async def test_operations_have_names_of_their_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(names) == len(set(names))


async def test_every_error_is_shown_as_it_is_told(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in operations.values():
            told = {status: each for status, each in operation["responses"].items() if int(status) >= 400}
            if path.startswith("/v2"):
                schemas = [each["content"]["application/json"]["schema"] for each in told.values()]
                assert schemas == [{"$ref": "#/components/schemas/Failure"}] * len(told)
                assert "422" not in told
            elif path.startswith("/v1"):
                assert all(list(each["content"]) == ["application/problem+json"] for each in told.values())
    assert "HTTPValidationError" not in document["components"]["schemas"]
