"""What can go wrong, and how an answer becomes one of these."""

import httpx


class ServoloopError(Exception):
    """The root of all errors of this package."""


class ConnectionFailed(ServoloopError):
    """No answer came."""


class ApiError(ServoloopError):
    """The service's problem, as it says it; None is what it doesn't say."""

    def __init__(
        self,
        status: int,
        problem_type: str | None,
        detail: str,
        field: str | None = None,
        expected: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(status, problem_type, detail, field, expected, request_id, retry_after)
        self.status, self.problem_type, self.detail = status, problem_type, detail
        self.field, self.expected = field, expected
        self.request_id = request_id
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.detail} (status {self.status})"


class InvalidInput(ApiError): ...


class NotFound(ApiError): ...


class Conflict(ApiError): ...


class Unavailable(ApiError): ...


class DeadlineExceeded(ApiError): ...


_ERRORS: dict[int, type[ApiError]] = {
    **dict.fromkeys((400, 413, 415, 422), InvalidInput),
    404: NotFound,
    409: Conflict,
    503: Unavailable,
    504: DeadlineExceeded,
}


def api_error(response: httpx.Response) -> ApiError:
    """The error that a response means; also where a proxy, or another service, answered."""
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {}
    return _ERRORS.get(response.status_code, ApiError)(
        response.status_code,
        problem.get("type"),
        problem.get("detail") or response.text[:200] or response.reason_phrase,
        problem.get("field"),
        problem.get("expected"),
        problem.get("request_id") or response.headers.get("X-Request-Id"),
        retry_after(response),
    )


def retry_after(response: httpx.Response) -> float | None:
    """Seconds; None where the header is missing or holds a date, which only proxies send."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None
