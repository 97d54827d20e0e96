"""Bodies that travel compressed: gzip and deflate, either way."""

import asyncio
import zlib
from collections.abc import AsyncIterator

from service.api.accepting import weights
from service.api.exchange import Answer
from service.errors import MalformedBody

# zlib's word for what surrounds the compressed data. "deflate" is zlib's own format, says RFC 9110.
_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
ENCODINGS = tuple(_WINDOWS)

_PIECE = 1 << 18
# What is left of it is copied with every piece that comes out.
_SLICE = 1 << 14
# Below this, an answer does not become so much smaller that it comes sooner.
_LEAST_BYTES = 1024
# What takes less than to wake a thread is done here: about a millisecond.
_INLINE_BYTES = 1 << 16
_LEVEL = 1


async def decompressed(data: bytes, encoding: str) -> AsyncIterator[bytes]:
    """What was compressed, in pieces of at most 256 KB, so that whoever takes them may stop. Raises MalformedBody."""
    unpacking = zlib.decompressobj(_WINDOWS[encoding])
    expected = f"a body that is compressed as {encoding}"
    size = 0
    for start in range(0, len(data), _SLICE):
        rest = data[start : start + _SLICE]
        while rest and not unpacking.eof:
            try:
                if size <= _INLINE_BYTES:
                    piece = unpacking.decompress(rest, _PIECE)
                else:
                    piece = await asyncio.to_thread(unpacking.decompress, rest, _PIECE)
            except zlib.error:
                raise MalformedBody(f"it is no {encoding}", field="body", expected=expected) from None
            rest = unpacking.unconsumed_tail
            size += len(piece)
            yield piece
        if unpacking.eof:
            if unpacking.unused_data or start + _SLICE < len(data):
                raise MalformedBody("bytes follow behind its end", field="body", expected=expected)
            return
    raise MalformedBody("it ends too soon", field="body", expected=expected)


def accepted(header: str | None) -> str | None:
    """Which of our encodings an Accept-Encoding prefers; None for none of them."""
    best, most = None, 0.0
    for encoding, weight in weights(header or ""):
        if encoding in _WINDOWS and weight > most:
            best, most = encoding, weight
    return best


async def compressed(answer: Answer, encoding: str) -> Answer:
    """The answer as that encoding, where that is worth it."""
    if len(answer.body) < _LEAST_BYTES:
        return answer
    if len(answer.body) <= _INLINE_BYTES:
        body = _compress(answer.body, encoding)
    else:
        body = await asyncio.to_thread(_compress, answer.body, encoding)
    return answer._replace(body=body, headers=(*answer.headers, (b"content-encoding", encoding.encode())))


def _compress(data: bytes, encoding: str) -> bytes:
    packing = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOWS[encoding])
    return packing.compress(data) + packing.flush()
