"""Have a listening socket begin no further connection, while those that have begun go on."""

import contextlib
import ctypes
import socket
import struct
import sys

# asm-generic/socket.h; Python has no names for them.
_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27
# A classic BPF program over the TCP header: of `struct sock_filter` code, jump if true, jump if false, operand.
_FLAGS, _SYN, _NOTHING, _WHOLE = 13, 0x02, 0, 0xFFFFFFFF
_INSTRUCTIONS = (
    (0x30, 0, 0, _FLAGS),  # load the byte
    (0x45, 0, 1, _SYN),  # is the bit set?
    (0x06, 0, 0, _NOTHING),  # keep nothing of the packet, which drops it
    (0x06, 0, 0, _WHOLE),
)
_PROGRAM = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in _INSTRUCTIONS))


def begin_no_more(listener: socket.socket) -> None:
    """Have the kernel drop every packet that would begin a connection to `listener`.

    Who sent it sends it again a second later, and is refused then, or taken by who listens there next. Without this,
    a connection that is made between the last `accept` and the end of listening is reset, though it stood for its
    client. Where the kernel has no such filter, which is anywhere but on Linux, that may still happen.
    """
    _set(listener, _SO_ATTACH_FILTER, struct.pack("HP", len(_INSTRUCTIONS), ctypes.addressof(_PROGRAM)))


def begin_again(listener: socket.socket) -> None:
    """Undo `begin_no_more`: the socket outlives the process that asked for it, and another may listen on it."""
    _set(listener, _SO_DETACH_FILTER, struct.pack("i", 0))


def _set(listener: socket.socket, option: int, value: bytes) -> None:
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):  # a kernel without filters, or a socket without one
        listener.setsockopt(socket.SOL_SOCKET, option, value)
