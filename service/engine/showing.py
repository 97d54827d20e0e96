"""Whoever looks after this process is shown what its threads run: if that ends the process, it is known of what."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.engine.failures import DeviceLost
from service.watch.blackbox import Running


@contextmanager
def shown(show: Callable[[Running | None], None], running: Running) -> Iterator[None]:
    """Show what a thread does while it does it; for good where the device is lost of it."""
    show(running)
    try:
        yield
    except DeviceLost:
        raise
    except Exception:
        show(None)
        raise
    show(None)
