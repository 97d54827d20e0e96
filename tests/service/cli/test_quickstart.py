"""What is said when the service is ready."""

import io
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from service.cli.quickstart import overview, show, suggestions
from service.registry.catalog import Catalog
from service.registry.scanner import scan
from tests import checkpoints


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("an examples folder")
    (folder / "ankle-boot.png").write_bytes(b"\x89PNG")
    return folder


CROWNED = {"champion": 1}


def curl_of(model: str, lines: list[str]) -> str:
    return next(line for line in lines if f"/models/{model}/predict" in line or f"# {model} takes" in line)


@pytest.mark.parametrize("model", ["clothes", "thumbnails", "mood", "sensors", "motion", "codes", "rent"])
def test_each_line_works_as_it_stands(url: str, catalog: Catalog, model: str) -> None:
    line = curl_of(model, suggestions(url, catalog, folders=[]))
    curl, silent, where, header, content_type, data, body = shlex.split(line)
    assert (curl, silent, header, data) == ("curl", "-s", "-H", "--data")
    answer = httpx.post(where, headers=[tuple(content_type.split(": "))], content=body, trust_env=False)
    assert answer.json()["model"] == model


def test_a_picture_is_sent_from_the_first_folder_that_has_it(catalog: Catalog, examples: Path) -> None:
    line = curl_of("clothes", suggestions("http://h", catalog, [examples / "none", examples]))
    assert shlex.split(line)[-2:] == ["--data-binary", f"@{examples / 'ankle-boot.png'}"]


def test_columns_are_typical_ones_within_their_range(tmp_path: Path) -> None:
    columns = [{"name": "a", "minimum": 100}, {"name": "b", "minimum": 0, "maximum": 5}, {"name": "c"}]
    fields: dict[str, Any] = {
        "architecture": {"family": "mlp", "config": {"inputs": 3, "outputs": 1}},
        "task": "regression",
        "input": {"kind": "columns", "columns": columns},
        "target": {"name": "mass"},
    }
    standardize = {"step": "standardize", "mean": [7, 3.14159, 0.5], "std": [1, 1, 1]}
    checkpoints.write(tmp_path, "known", preprocess=[standardize], **fields)
    checkpoints.write(tmp_path, "unknown", **fields)
    lines = suggestions("http://h", scan([tmp_path], {"known": CROWNED, "unknown": CROWNED}))
    assert '{"columns":{"a":100,"b":3.142,"c":0.5}}' in curl_of("known", lines)
    assert '{"columns":{"a":100,"b":2.5,"c":0}}' in curl_of("unknown", lines)


def test_a_model_whose_champion_is_missing_is_not_suggested(tmp_path: Path) -> None:
    checkpoints.write_columns(tmp_path)
    assert not [line for line in suggestions("http://h", scan([tmp_path], {"rent": {"champion": 7}})) if "rent" in line]


def test_a_row_too_large_for_a_line_is_described(tmp_path: Path) -> None:
    checkpoints.write(
        tmp_path,
        "spectra",
        architecture={"family": "mlp", "config": {"inputs": 500, "outputs": 1}},
        task="regression",
        input={"kind": "tensor", "shape": [500]},
        target={"name": "mass"},
    )
    lines = suggestions("http://h", scan([tmp_path], {"spectra": CROWNED}))
    assert "  # spectra takes 500 numbers (float32): servoloop predict spectra FILE.npy --url http://h" in lines


def test_the_table_names_champions_metrics_and_what_is_broken(catalog: Catalog) -> None:
    console = Console(file=io.StringIO(), width=120)
    console.print(overview(catalog))
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    first, second = (line for line in text.splitlines() if "clothes" in line)
    assert "accuracy 0.5 (0.4 to 0.6)" in first
    assert "champion" in first
    assert "served" in second
    assert "broken: weights.safetensors is [missing]" in text


def test_an_empty_service_says_how_to_fill_it() -> None:
    assert "servoloop register" in "".join(suggestions("http://h", Catalog()))


def test_all_of_it_is_written_at_once_and_no_line_is_broken(catalog: Catalog) -> None:
    class Pipe(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    pipe = Pipe()
    show(Console(file=pipe, width=60), "http://127.0.0.1:8000", catalog)
    lines = pipe.flushed.splitlines()
    assert lines[0] == "Servoloop answers on http://127.0.0.1:8000"
    assert any(line.endswith("""--data '{"instances":[{"columns":{"area":70,"rooms":3}}]}'""") for line in lines)
    assert lines[-1].endswith("http://127.0.0.1:8000/docs")
