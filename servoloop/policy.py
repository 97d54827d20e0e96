"""When a call is tried again, and for how long. Decides; the clients send, wait and know the time."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

from servoloop.errors import ApiError, ConnectionFailed, api_error, retry_after

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One question: what to send, which statuses answer it, and how to read them.

    `content` that is long is made piece by piece, anew for each attempt. `patience`: seconds that its answer may take
    beyond the client's timeout. Unless `retried`, it is asked once.
    """

    method: str
    path: str
    read: Callable[[httpx.Response], T]
    content: bytes | Callable[[], Iterator[bytes]] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    answers: tuple[int, ...] = (200,)
    retried: bool = True
    patience: float = 0.0


@dataclass(frozen=True, slots=True)
class Policy:
    """How a client asks: `timeout` in seconds, of a call with all its attempts; `retries` after the first."""

    url: str
    timeout: float
    retries: int

    def __post_init__(self) -> None:
        if not self.timeout > 0:
            raise ValueError(f"timeout must be positive, got {self.timeout}")
        if self.retries < 0:
            raise ValueError(f"retries must not be negative, got {self.retries}")


Outcome = httpx.Response | httpx.RequestError
_FIRST_PAUSE = 0.1
_LEAST_WAIT = 0.001
# The service gives up a little before the client does, so that its answer, which says more, still arrives.
_SERVICE_SHARE = 0.95


class Exchange(Generic[T]):
    """The attempts at one call. It decides; whoever drives it sends, waits and knows the time."""

    def __init__(self, call: Call[T], policy: Policy, now: float) -> None:
        self._call = call
        self._policy = policy
        self._timeout = policy.timeout + call.patience
        self._deadline = now + self._timeout
        self._retries = policy.retries if call.retried else 0
        self._pause = _FIRST_PAUSE

    def request(self, now: float) -> dict[str, Any]:
        """Arguments of httpx's `request`."""
        left = max(self._deadline - now, _LEAST_WAIT)
        headers = {"X-Request-Timeout-Ms": f"{1000 * _SERVICE_SHARE * left:.3f}", **self._call.headers}
        call = self._call
        return {
            "method": call.method,
            "url": call.path,
            "content": call.content() if callable(call.content) else call.content,
            "headers": headers,
            "timeout": left,
        }

    def pause(self, outcome: Outcome, now: float) -> float | None:
        """Seconds until the next attempt, or None where `outcome` is the last word.

        Only what surely wasn't computed is tried again: the connection was refused, or the service said 503.
        """
        match outcome:
            case httpx.ConnectError():
                wait = self._pause
            case httpx.Response(status_code=503) if 503 not in self._call.answers:
                wait = max(retry_after(outcome) or 0.0, self._pause)
            case _:
                return None
        if not self._retries or now + wait >= self._deadline:
            return None
        self._retries -= 1
        self._pause *= 2
        return wait

    def answer(self, outcome: Outcome) -> T:
        """Raises ConnectionFailed or ApiError."""
        match outcome:
            case httpx.TimeoutException():
                raise ConnectionFailed(f"{self._policy.url} did not answer in time ({self._timeout:g} s)")
            case httpx.RequestError():
                raise ConnectionFailed(f"{self._policy.url} did not answer: {outcome}") from outcome
            case httpx.Response(status_code=status) if status not in self._call.answers:
                raise api_error(outcome)
        try:
            return self._call.read(outcome)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{self._policy.url} did not answer as a Servoloop service does"
            raise ApiError(outcome.status_code, None, what) from error


def may_use_proxy(url: str) -> bool:
    """A proxy named in the environment can't reach this machine's own addresses."""
    return httpx.URL(url).host not in ("localhost", "127.0.0.1", "::1")
