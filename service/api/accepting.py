"""What callers say that they accept: media types, and encodings, each with a weight."""

from collections.abc import Iterator, Sequence

VARY = {"Vary": "Accept"}
"""Of every answer that depends on what was accepted."""


def weights(header: str) -> Iterator[tuple[str, float]]:
    """The names that an Accept or an Accept-Encoding lists, in their order, with their weights; 0 is not wanted."""
    for part in header.lower().split(","):
        name, *parameters = part.split(";")
        yield name.strip(), next((_number(value) for key, _, value in map(_pair, parameters) if key == "q"), 1.0)


def preferred(accept: Sequence[str], offered: Sequence[str]) -> str:
    """The media type that the values of Accept prefer of those that are offered; the first one where they name none.

    Of those that weigh the same that is one which is named, before those of a range (`*/*`, `image/*`), and of several
    the one that is named first.
    """
    listed = list(weights(",".join(accept)))
    ranks: list[tuple[float, int, int, int]] = []
    for index, media_type in enumerate(offered):
        ranges = (media_type, f"{media_type.partition('/')[0]}/*", "*/*")
        found = [(ranges.index(name), place, weight) for place, (name, weight) in enumerate(listed) if name in ranges]
        if found:
            # What names it most closely says how much it is wanted, whatever a range says of others with it.
            breadth, place, weight = min(found)
            if weight > 0:
                ranks.append((-weight, breadth, place, index))
    return offered[min(ranks)[-1] if ranks else 0]


def _pair(parameter: str) -> tuple[str, str, str]:
    name, sign, value = parameter.partition("=")
    return name.strip(), sign, value.strip()


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0 <= value <= 1 else 0.0
