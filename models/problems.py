"""What is wrong with a configuration, in one line a fault."""

from pydantic import ValidationError


def problems(error: ValidationError) -> list[str]:
    """Return `key.subkey: what is wrong, got what` for every fault, and `key.subkey is missing`."""
    found = []
    for fault in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in fault["loc"])
        message = fault["msg"].removeprefix("Value error, ")
        if not where:
            found.append(message)
        elif fault["type"] == "missing":
            found.append(f"{where} is missing")
        else:
            found.append(f"{where}: {message}, got {fault['input']!r}")
    return found
