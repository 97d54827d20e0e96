"""The connections that gRPC has, which it keeps to itself."""

import contextlib
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from service.api.handshakes import begin_no_more

_DESCRIPTORS = Path("/proc/self/fd")


def hear_no_more(port: int) -> int:
    """End what is heard on this process's connections to `port`, and say how many there are.

    What is being said on them is still said; then gRPC closes them.

    Calls that come while gRPC's server stops are cancelled, as if their clients had left, and no client asks again
    after that. Those whose connection has ended are UNAVAILABLE, which is what they are. Elsewhere than on Linux
    nothing happens here.
    """
    if sys.platform != "linux":
        return 0
    connections = 0
    for sock in _sockets():
        with sock, contextlib.suppress(OSError):  # of those that are no longer connected
            if sock.getsockname()[1:2] != (port,):
                continue
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                begin_no_more(sock)
            else:
                connections += 1
                sock.shutdown(socket.SHUT_RD)
    return connections


def _sockets() -> Iterator[socket.socket]:
    """Copies of those of this process that have ports."""
    for descriptor in sorted(int(one.name) for one in _DESCRIPTORS.iterdir()):
        try:
            copy = os.dup(descriptor)
        except OSError:  # it was that of looking, or was closed meanwhile
            continue
        if not stat.S_ISSOCK(os.fstat(copy).st_mode):
            os.close(copy)
            continue
        sock = socket.socket(fileno=copy)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            yield sock
        else:
            sock.close()
