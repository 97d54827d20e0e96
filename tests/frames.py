"""Frames as bytes, and back."""

from service.wire.frames import Frame, FrameBuffer, parts_of


def encode(frame: Frame) -> bytes:
    """As a stream has it."""
    return b"".join(parts_of(frame))


def sent(frame: Frame) -> Frame:
    """As it arrives at the other end."""
    (arrived,) = FrameBuffer().feed(encode(frame))
    return arrived
