"""The documentation's pages, for tests that hold them to the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def section(page: Path, title: str) -> str:
    """What stands under a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", page.read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None, title
    return found[1]


def table(text: str, head: str) -> list[list[str]]:
    """The cells of each row of the first table whose head begins with the cell `head`."""
    found = re.search(rf"^\| {re.escape(head)} ?\|[^\n]*\n\|[- |]+\n((?:\|[^\n]*\n)+)", text, re.MULTILINE)
    assert found is not None, head
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()]


def names(text: str) -> list[str]:
    """What stands in backticks."""
    return re.findall(r"`([^`]+)`", text)
