"""The sockets on which the service listens, held by the supervisor for as long as the service runs."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

from service.errors import Misconfigured
from service.settings import Settings

_BACKLOG = 2048


@contextlib.contextmanager
def listen(settings: Settings) -> Iterator[list[socket.socket]]:
    """One listening socket for each http process, all on one port. Raises Misconfigured.

    Of processes that accept from one socket, whichever wakes first takes all that waits, and keep-alive connections
    stay where they are. Of sockets that share a port, the kernel chooses one by a hash of the connection's addresses.
    While a process is replaced, connections wait in its socket's backlog.
    """
    if not settings.allow_remote and not _is_loopback(settings.host):
        raise Misconfigured(
            f"{settings.host} can be reached by others, and whoever reaches it may ask it anything; "
            "serve on 127.0.0.1, or say --allow-remote where a proxy or a network policy stands before it"
        )
    with contextlib.ExitStack() as stack:
        listeners: list[socket.socket] = []
        port = settings.port
        for _ in range(settings.num_http_processes):
            listener = stack.enter_context(_bound(settings.host, port, share=bool(listeners)))
            port = listener.getsockname()[1]
            listeners.append(listener)
        for listener in listeners:
            listener.listen(_BACKLOG)
        yield listeners


def _bound(host: str, port: int, *, share: bool) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if share:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind((host, port))
        # Only now for the first, or a second service could take the same port unnoticed.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        listener.close()
        what = f"can't serve on {host}:{port}: {error.strerror}; choose another with --host or --port"
        raise Misconfigured(what) from None
    return listener


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
