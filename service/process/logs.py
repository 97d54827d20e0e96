"""What our processes write to stderr."""

import logging
import sys
from contextvars import ContextVar
from typing import Any

import structlog

# Without the values of local variables, which may be what callers sent.
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered, if any: every line of the log that is written meanwhile has it."""


def configure_logging(level: str, style: str, *, slot: str) -> None:
    """Log to stderr. `style` json: an object a line; console: text for people; auto: console at a terminal."""
    console = style == "console" or (style == "auto" and sys.stderr.isatty())

    def add_slot(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["process"] = slot
        return event

    def add_request(_: Any, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        if (answered := request_id.get()) is not None:
            event["request_id"] = answered
        return event

    shared: list[structlog.typing.Processor] = [
        add_request,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        add_slot,
    ]
    render: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
        if console
        else [_TRACEBACKS, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("uvicorn", "httpx", "httpcore", "asyncio", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
