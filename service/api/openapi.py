"""What /openapi.json says."""

from collections.abc import Callable
from typing import Any

_TAKEN_FOR_GRANTED = {"$ref": "#/components/schemas/HTTPValidationError"}


def without_validation_errors(document: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """FastAPI's document, without the 422 that it takes for granted wherever there is a parameter.

    No error of ours has that form, and routes that do answer 422 say so themselves.
    """
    whole = document()
    for operations in whole["paths"].values():
        for operation in operations.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if content.get("application/json", {}).get("schema") == _TAKEN_FOR_GRANTED:
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        whole["components"]["schemas"].pop(name, None)
    return whole
