"""Ask a Servoloop service for predictions.

    from servoloop import Client

    with Client("http://127.0.0.1:8000") as client:
        print(client.predict("sentiment", "A film to see twice.").label)

AsyncClient has the same verbs to await. Everything that can go wrong:

ServoloopError
├── ConnectionFailed      no answer came: nothing listens there, the connection broke, or the client's time ran out
└── ApiError              the service said no: status, problem_type, detail, field, expected, request_id
    ├── InvalidInput        what was sent can't be served; `field` and `expected` say what it lacks (400, 413, 415, 422)
    ├── NotFound            there is no such model, version or alias (404)
    ├── Conflict            what is there is not what was expected (409)
    ├── Unavailable         overloaded, or not ready yet: try again after `retry_after` seconds (503)
    └── DeadlineExceeded    the service ran out of the request's time (504)
"""

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypedDict, TypeVar, Unpack, overload
from urllib.parse import quote

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"

T = TypeVar("T")


class ServoloopError(Exception):
    """The root of all errors of this module."""


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


@dataclass(frozen=True, slots=True)
class Scored:
    """A label and its probability; `index` is its place in the model's labels, where the service gives it."""

    label: str
    probability: float
    index: int | None = None


@dataclass(frozen=True, slots=True)
class RowError:
    """Why one row failed where others did not."""

    type: str
    detail: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says of one row; None is what its task, or the question, doesn't have.

    `label`, `index`, `probability`: multiclass and binary. `value`: regression. `labels`: multilabel.
    """

    prediction_id: str
    model: str
    version: str
    label: str | None = None
    index: int | None = None
    probability: float | None = None
    value: float | None = None
    top: tuple[Scored, ...] | None = None
    probabilities: Mapping[str, float] | None = None
    labels: tuple[Scored, ...] | None = None
    embedding: tuple[float, ...] | None = None
    error: RowError | None = None


@dataclass(frozen=True, slots=True)
class Predictions(Sequence[Prediction]):
    """One prediction for each instance, in their order, all by one version."""

    model: str
    version: str
    rows: tuple[Prediction, ...]

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Prediction]: ...
    def __getitem__(self, index: int | slice) -> Prediction | Sequence[Prediction]:
        return self.rows[index]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model; `reason` says why it is not ready, `metrics` what was measured before it was deployed."""

    version: str
    ready: bool
    reason: str | None
    description: str
    architecture: str
    digest: str
    metrics: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Model:
    """A model: its task, what it takes (`input`, as in the manifest), and its versions."""

    name: str
    task: str
    input: Mapping[str, Any]
    content_types: Sequence[str]
    labels: Sequence[str]
    target: Mapping[str, Any] | None
    aliases: Mapping[str, str]
    ready: bool
    versions: tuple[Version, ...]


@dataclass(frozen=True, slots=True)
class Broken:
    """A checkpoint that can't be served."""

    model: str
    version: str
    reason: str


@dataclass(frozen=True, slots=True)
class Models(Sequence[Model]):
    """All models, and in `broken` the checkpoints that can't be served."""

    models: tuple[Model, ...]
    broken: tuple[Broken, ...]

    def __len__(self) -> int:
        return len(self.models)

    @overload
    def __getitem__(self, index: int) -> Model: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Model]: ...
    def __getitem__(self, index: int | slice) -> Model | Sequence[Model]:
        return self.models[index]


@dataclass(frozen=True)
class AliasMove:
    """An alias names another version since `time` (RFC 3339); `previous` is None where the alias was new."""

    model: str
    alias: str
    version: str
    previous: str | None
    actor: str
    reason: str
    time: str
    revision: int


class ArrayLike(Protocol):
    """A numpy array, a torch tensor, or what else can name its numbers."""

    def tolist(self) -> Any: ...


Instance = str | Path | bytes | ArrayLike | Sequence[Any] | Mapping[str, Any]
"""One row: a text; an image file's path or bytes; numbers; or column -> number."""


class Options(TypedDict, total=False):
    """How an answer is wanted; `timeout_ms` is the service's time for it, `key` keeps a caller on one version."""

    version: int | str | None
    alias: str | None
    top_k: int | None
    return_probabilities: bool
    timeout_ms: float | None
    key: str | None
    tags: Mapping[str, str] | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class _Call(Generic[T]):
    """One question: what to send, which statuses answer it, and how to read them."""

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[int, ...] = (200,)
    patient: bool = True


@dataclass(frozen=True, slots=True)
class _Policy:
    url: str
    timeout: float
    retries: int

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ValueError(f"timeout must be positive, got {self.timeout}")
        if self.retries < 0:
            raise ValueError(f"retries must not be negative, got {self.retries}")


_Outcome = httpx.Response | httpx.RequestError
_FIRST_PAUSE = 0.1
_LEAST_WAIT = 0.001
# The service gives up a little before the client does, so that its answer, which says more, still arrives.
_SERVICE_SHARE = 0.95


class _Exchange(Generic[T]):
    """The attempts at one call. It decides; whoever drives it sends, waits and knows the time."""

    def __init__(self, call: _Call[T], policy: _Policy, now: float) -> None:
        self._call = call
        self._policy = policy
        self._deadline = now + policy.timeout
        self._retries = policy.retries if call.patient else 0
        self._pause = _FIRST_PAUSE

    def request(self, now: float) -> dict[str, Any]:
        """Arguments of httpx's `request`."""
        left = max(self._deadline - now, _LEAST_WAIT)
        headers = {"X-Request-Timeout-Ms": f"{1000 * _SERVICE_SHARE * left:.3f}", **self._call.headers}
        call = self._call
        return {
            "method": call.method,
            "url": call.path,
            "content": call.content,
            "headers": headers,
            "timeout": left,
        }

    def pause(self, outcome: _Outcome, now: float) -> float | None:
        """Seconds until the next attempt, or None where `outcome` is the last word.

        Only what surely wasn't computed is tried again: the connection was refused, or the service said 503.
        """
        match outcome:
            case httpx.ConnectError():
                wait = self._pause
            case httpx.Response(status_code=503) if 503 not in self._call.answers:
                wait = max(_retry_after(outcome) or 0.0, self._pause)
            case _:
                return None
        if not self._retries or now + wait >= self._deadline:
            return None
        self._retries -= 1
        self._pause *= 2
        return wait

    def answer(self, outcome: _Outcome) -> T:
        """Raises ConnectionFailed or ApiError."""
        match outcome:
            case httpx.TimeoutException():
                raise ConnectionFailed(f"{self._policy.url} did not answer in time ({self._policy.timeout:g} s)")
            case httpx.RequestError():
                raise ConnectionFailed(f"{self._policy.url} did not answer: {outcome}") from outcome
            case httpx.Response(status_code=status) if status not in self._call.answers:
                raise _api_error(outcome)
        try:
            return self._call.read(outcome)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{self._policy.url} did not answer as a Servoloop service does"
            raise ApiError(outcome.status_code, None, what) from error


class Client:
    """Asks the service at `url`. `timeout`, in seconds, bounds a call with all its attempts; `retries` counts those
    after the first. Close it, or use it as a context manager. Threads may share it.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        timeout: float = 10.0,
        retries: int = 2,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = _Policy(url, timeout, retries)
        self._http = httpx.Client(base_url=url, transport=transport, trust_env=_may_use_proxy(url))
        self._sleep = sleep
        self._clock = clock

    def predict(
        self, model: str, instance: Instance, *, external_id: str | None = None, **options: Unpack[Options]
    ) -> Prediction:
        """The prediction for one row. Raises ServoloopError; TypeError or ValueError for what can't be sent."""
        external_ids = None if external_id is None else [external_id]
        return self._run(_predict_call(model, [instance], external_ids, **options))[0]

    def predict_many(
        self,
        model: str,
        instances: Iterable[Instance],
        *,
        external_ids: Sequence[str] | None = None,
        **options: Unpack[Options],
    ) -> Predictions:
        """The predictions for several rows, in their order. Raises as `predict` does; a row may fail alone."""
        return self._run(_predict_call(model, instances, external_ids, **options))

    def models(self) -> Models:
        """Everything the service has. Raises ServoloopError."""
        return self._run(_MODELS)

    def model(self, name: str) -> Model:
        """One model. Raises NotFound."""
        return self._run(_model_call(name))

    def move_alias(
        self, model: str, alias: str, version: int, *, reason: str = "", expected: int | None = None
    ) -> AliasMove:
        """Let an alias name another version. Raises NotFound, Unavailable, or Conflict where it isn't as `expected`."""
        return self._run(_alias_call(model, alias, version, reason, expected))

    def ready(self) -> bool:
        """Whether every model answers; False too where nothing listens (yet). Asks once, without retries."""
        try:
            return self._run(_READY)
        except ConnectionFailed:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, call: _Call[T]) -> T:
        exchange = _Exchange(call, self._policy, self._clock())
        while True:
            outcome: _Outcome
            try:
                outcome = self._http.request(**exchange.request(self._clock()))
            except httpx.RequestError as error:
                outcome = error
            pause = exchange.pause(outcome, self._clock())
            if pause is None:
                return exchange.answer(outcome)
            self._sleep(pause)


class AsyncClient:
    """Client, with verbs to await."""

    def __init__(
        self,
        url: str = DEFAULT_URL,
        timeout: float = 10.0,
        retries: int = 2,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._policy = _Policy(url, timeout, retries)
        self._http = httpx.AsyncClient(base_url=url, transport=transport, trust_env=_may_use_proxy(url))
        self._sleep = sleep
        self._clock = clock

    async def predict(
        self, model: str, instance: Instance, *, external_id: str | None = None, **options: Unpack[Options]
    ) -> Prediction:
        """The prediction for one row. Raises ServoloopError; TypeError or ValueError for what can't be sent."""
        external_ids = None if external_id is None else [external_id]
        return (await self._run(_predict_call(model, [instance], external_ids, **options)))[0]

    async def predict_many(
        self,
        model: str,
        instances: Iterable[Instance],
        *,
        external_ids: Sequence[str] | None = None,
        **options: Unpack[Options],
    ) -> Predictions:
        """The predictions for several rows, in their order. Raises as `predict` does; a row may fail alone."""
        return await self._run(_predict_call(model, instances, external_ids, **options))

    async def models(self) -> Models:
        """Everything the service has. Raises ServoloopError."""
        return await self._run(_MODELS)

    async def model(self, name: str) -> Model:
        """One model. Raises NotFound."""
        return await self._run(_model_call(name))

    async def move_alias(
        self, model: str, alias: str, version: int, *, reason: str = "", expected: int | None = None
    ) -> AliasMove:
        """Let an alias name another version. Raises NotFound, Unavailable, or Conflict where it isn't as `expected`."""
        return await self._run(_alias_call(model, alias, version, reason, expected))

    async def ready(self) -> bool:
        """Whether every model answers; False too where nothing listens (yet). Asks once, without retries."""
        try:
            return await self._run(_READY)
        except ConnectionFailed:
            return False

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _run(self, call: _Call[T]) -> T:
        exchange = _Exchange(call, self._policy, self._clock())
        while True:
            outcome: _Outcome
            try:
                outcome = await self._http.request(**exchange.request(self._clock()))
            except httpx.RequestError as error:
                outcome = error
            pause = exchange.pause(outcome, self._clock())
            if pause is None:
                return exchange.answer(outcome)
            await self._sleep(pause)


def _predict_call(
    model: str,
    instances: Iterable[Instance],
    external_ids: Sequence[str] | None,
    *,
    version: int | str | None = None,
    alias: str | None = None,
    top_k: int | None = None,
    return_probabilities: bool = False,
    timeout_ms: float | None = None,
    key: str | None = None,
    tags: Mapping[str, str] | None = None,
    request_id: str | None = None,
) -> _Call[Predictions]:
    if isinstance(instances, str | bytes | Path | Mapping):
        raise TypeError(f"expected several instances, got one {type(instances).__name__}")
    if version is not None and alias is not None:
        raise ValueError("name a version or an alias, not both")
    path = f"/v1/models/{quote(model, safe='')}"
    if version is not None:
        path += f"/versions/{quote(str(version), safe='')}"
    elif alias is not None:
        path += f"/aliases/{quote(alias, safe='')}"
    parameters = {
        "top_k": top_k,
        "return_probabilities": return_probabilities or None,
        "timeout_ms": timeout_ms,
        "key": key,
        "tags": None if tags is None else dict(tags),
        "external_ids": None if external_ids is None else list(external_ids),
    }
    body = {
        "instances": [_form(instance) for instance in instances],
        "parameters": {name: value for name, value in parameters.items() if value is not None},
    }
    headers = {"Content-Type": "application/json"}
    if request_id is not None:
        headers["X-Request-Id"] = request_id
    return _Call("POST", f"{path}/predict", _read_predictions, _to_json(body), headers)


def _model_call(name: str) -> _Call[Model]:
    return _Call("GET", f"/v1/models/{quote(name, safe='')}", lambda response: _model(response.json()))


def _alias_call(model: str, alias: str, version: int, reason: str, expected: int | None) -> _Call[AliasMove]:
    body = {"version": str(version), "reason": reason, "expected": None if expected is None else str(expected)}
    return _Call(
        "PUT",
        f"/v1/models/{quote(model, safe='')}/aliases/{quote(alias, safe='')}",
        lambda response: _pick(AliasMove, response.json()),
        _to_json(body),
        {"Content-Type": "application/json"},
    )


def _read_ready(response: httpx.Response) -> bool:
    return response.json()["ready"] is True


def _read_models(response: httpx.Response) -> Models:
    document = response.json()
    broken = tuple(_pick(Broken, entry) for entry in document["broken"])
    return Models(tuple(_model(entry) for entry in document["models"]), broken)


_MODELS = _Call("GET", "/v1/models", _read_models)
_READY = _Call("GET", "/readyz", _read_ready, answers=(200, 503), patient=False)

_WRAPPED = frozenset({"columns", "image", "text", "values"})


def _form(instance: Any) -> Any:
    """The instance as the service takes it, but for arrays, which `_to_json` unfolds."""
    match instance:
        case str():
            return instance
        case Path():
            return _image(instance.read_bytes())
        case bytes() | bytearray() | memoryview():
            return _image(instance)
        case Mapping():
            is_wrapped = len(instance) == 1 and instance.keys() <= _WRAPPED
            if is_wrapped and not isinstance(next(iter(instance.values())), Real):
                return dict(instance)
            return {"columns": dict(instance)}
        case _:
            return instance


def _image(data: bytes | bytearray | memoryview) -> dict[str, str]:
    return {"image": base64.b64encode(data).decode()}


def _to_json(body: Any) -> bytes:
    try:
        return json.dumps(body, default=_unfold, allow_nan=False, separators=(",", ":")).encode()
    except ValueError as error:
        raise ValueError("an instance holds NaN or an infinite number, which no model takes") from error


def _unfold(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(
        f"an instance can't be or hold a {type(value).__name__}; expected a text, the Path or the bytes of an image, "
        "numbers, an array, or a mapping of column to number"
    )


def _read_predictions(response: httpx.Response) -> Predictions:
    answer = response.json()
    model, version = answer["model"], answer["version"]
    pairs = zip(answer["prediction_ids"], answer["predictions"], strict=True)
    return Predictions(model, version, tuple(_prediction(row, ident, model, version) for ident, row in pairs))


def _prediction(row: Mapping[str, Any], prediction_id: str, model: str, version: str) -> Prediction:
    error, embedding = row.get("error"), row.get("embedding")
    return Prediction(
        prediction_id=prediction_id,
        model=model,
        version=version,
        label=row.get("label"),
        index=row.get("index"),
        probability=row.get("probability"),
        value=row.get("value"),
        top=_scored(row.get("top")),
        probabilities=row.get("probabilities"),
        labels=_scored(row.get("labels")),
        embedding=None if embedding is None else tuple(embedding),
        error=None if error is None else RowError(error["type"], error["detail"]),
    )


def _scored(entries: Iterable[Mapping[str, Any]] | None) -> tuple[Scored, ...] | None:
    if entries is None:
        return None
    return tuple(Scored(entry["label"], entry["probability"], entry.get("index")) for entry in entries)


def _model(document: Mapping[str, Any]) -> Model:
    versions = tuple(_pick(Version, entry) for entry in document["versions"])
    return _pick(Model, {**document, "versions": versions})


def _pick(kind: type[T], members: Mapping[str, Any]) -> T:
    """A dataclass of the members that it names; a newer service may send more."""
    return kind(**{each.name: members[each.name] for each in fields(kind)})  # type: ignore[arg-type]


def _api_error(response: httpx.Response) -> ApiError:
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
        _retry_after(response),
    )


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds; None where the header is missing or holds a date, which only proxies send."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isascii() and text.isdigit() else None


def _may_use_proxy(url: str) -> bool:
    """A proxy named in the environment can't reach this machine's own addresses."""
    return httpx.URL(url).host not in ("localhost", "127.0.0.1", "::1")
