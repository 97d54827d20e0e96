"""Have a listening socket begin no further connection, while those that have begun go on."""

import contextlib
import ctypes
import socket
import struct
import sys

_SO_ATTACH_FILTER = 26  # linux/socket.h; Python has no name for it
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
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        program = struct.pack("HP", len(_INSTRUCTIONS), ctypes.addressof(_PROGRAM))
        listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
