"""Which rows are set apart, never to be trained on: by a hash of their input, so that duplicates stay together."""

import hashlib


def is_held_out(row: bytes, share: float, salt: str) -> bool:
    """Whether the row with these bytes belongs to the part that is set apart: a `share`, 0 to 1, of all inputs.

    The answer is the same for ever, whatever other rows there are. With a larger share the part only grows; another
    salt draws another one, independent of the first. `models.feedback.rows.row_bytes` gives a row's bytes.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in 0..1, got {share}")
    drawn = int.from_bytes(hashlib.sha256(salt.encode() + b"\0" + row).digest()[:8])
    return drawn < share * 2**64
