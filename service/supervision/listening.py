"""The sockets on which the service listens, held by the supervisor for as long as the service runs."""

import contextlib
import ipaddress
import socket
from collections.abc import Iterator
from importlib.util import find_spec

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
            listener = stack.enter_context(_bound(settings.host, port, "--port", share=bool(listeners)))
            port = listener.getsockname()[1]
            listeners.append(listener)
        for listener in listeners:
            listener.listen(_BACKLOG)
        yield listeners


@contextlib.contextmanager
def reserve_grpc(settings: Settings) -> Iterator[str | None]:
    """The address on which each http process serves gRPC, which is this service's while it runs; None: on none.

    gRPC takes no listening socket from another, it binds its own: the kernel lets those share the port that have said
    so, as the socket here does. It never listens, so no connection comes to it. Raises Misconfigured.
    """
    if not settings.grpc_port:
        yield None
        return
    if not all(_is_installed(name) for name in ("grpc", "google.protobuf")):
        raise Misconfigured("gRPC needs grpcio and protobuf (--grpc-port): pip install 'servoloop[grpc]'")
    with _bound(settings.host, settings.grpc_port, "--grpc-port", share=False) as reserved:
        host, port = reserved.getsockname()[:2]
        yield f"[{host}]:{port}" if reserved.family == socket.AF_INET6 else f"{host}:{port}"


def _bound(host: str, port: int, option: str, *, share: bool) -> socket.socket:
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
        what = f"can't serve on {host}:{port}: {error.strerror}; choose another with --host or {option}"
        raise Misconfigured(what) from None
    return listener


def _is_installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of what it lies in
        return False


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
