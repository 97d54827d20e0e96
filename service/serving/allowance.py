"""What decoding one request may still take."""

from collections.abc import Callable

from service.errors import UnprocessableInput

MAX_PIXELS = 64_000_000
"""Of all images of a request together, as their files say: two of the largest that are accepted."""


class Allowance:
    """Belongs to one request. `check` raises once its answer is worth nothing; ask it before every row."""

    def __init__(self, check: Callable[[], None], max_pixels: int = MAX_PIXELS) -> None:
        self.check = check
        self._max_pixels = max_pixels
        self._pixels = 0

    def admit(self, pixels: int, field: str) -> None:
        """Count an image before its pixels are unfolded. Raises UnprocessableInput past the request's bound."""
        self._pixels += pixels
        if self._pixels > self._max_pixels:
            what = f"with this image the request has {self._pixels} pixels"
            raise UnprocessableInput(what, field=field, expected=f"at most {self._max_pixels} in all its images")
