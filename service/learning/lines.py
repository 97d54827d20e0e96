"""Bodies of one document a line, as they stream in."""

from collections.abc import AsyncIterator

from service.errors import MalformedBody


async def grouped_lines(chunks: AsyncIterator[bytes], *, group: int, most_bytes: int) -> AsyncIterator[list[bytes]]:
    """The lines that are not empty, so many together. Raises MalformedBody at a line of more than `most_bytes`."""
    lines: list[bytes] = []
    rest = b""
    async for chunk in chunks:
        *whole, rest = (rest + chunk).split(b"\n")
        if max(map(len, (rest, *whole))) > most_bytes:
            raise MalformedBody("a line is too long", field="body", expected=f"at most {most_bytes} bytes a line")
        lines += [line for line in whole if line.strip()]
        while len(lines) >= group:
            yield lines[:group]
            lines = lines[group:]
    if rest.strip():
        lines.append(rest)
    if lines:
        yield lines
