"""`servoloop predict`, `models` and `alias`: ask a running service."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.connecting import DEFAULT_URL, Url, connected
from service.cli.output import Json, bar, console, headline

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from servoloop import Models, Prediction, Version

# A version that an alias shall name may have to be loaded first.
_ALIAS_SECONDS = 60.0

_IMAGES = (".png", ".jpg", ".jpeg", ".webp")
_FILES = (*_IMAGES, ".npy", ".txt", ".json")


def predict(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    instance: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE|TEXT|COLUMN=NUMBER...",
            help="A png, jpeg, webp, npy, txt or json file, a text, or a number for each column, as in lotsize=5850.",
        ),
    ],
    url: Url = DEFAULT_URL,
    top_k: Annotated[int, typer.Option(min=1, max=1000, help="How many of the best labels to show.")] = 3,
    version: Annotated[int | None, typer.Option(min=1, help="Ask this version, not the champion.")] = None,
    as_json: Json = False,
) -> None:
    """Ask a running service for one prediction."""
    row = read_instance(instance)
    with connected(url) as client:
        prediction = client.predict(model, row, top_k=top_k, version=version)
    if as_json:
        typer.echo(json.dumps(_present(asdict(prediction)), ensure_ascii=False))
        return
    console().print(answer_table(prediction))
    typer.echo(f"{prediction.model}/{prediction.version} · prediction {prediction.prediction_id}")


def models(url: Url = DEFAULT_URL, as_json: Json = False) -> None:
    """Show the models of a running service."""
    with connected(url) as client:
        found = client.models()
    if as_json:
        typer.echo(json.dumps(asdict(found), ensure_ascii=False))
    else:
        console().print(models_table(found))


def alias(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    name: Annotated[str, typer.Argument(metavar="ALIAS", help="champion answers by default.")],
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1)],
    reason: Annotated[str, typer.Option(help="Kept in the model's history.")] = "",
    expected: Annotated[
        int | None, typer.Option(min=1, help="Move it only if it names this version now.", show_default="any")
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Let an alias of a running service name another version."""
    with connected(url, timeout=_ALIAS_SECONDS) as client:
        move = client.move_alias(model, name, version, reason=reason, expected=expected)
    before = f"version {move.previous}" if move.previous else "nothing"
    typer.echo(f"{move.alias} of {move.model} names version {move.version}; before, it named {before}.")


def read_instance(words: list[str]) -> Any:
    """What the words of a command line stand for: a file's content, columns, or else a text.

    Raises typer.BadParameter for a file that is not there or can't be read.
    """
    columns = dict(_columns(words))
    if len(columns) == len(words):
        return columns
    path = Path(words[0])
    is_named_like_a_file = len(words) == 1 and path.suffix.lower() in _FILES
    if not is_named_like_a_file or (" " in words[0] and not path.is_file()):
        return " ".join(words)
    try:
        return _read(path)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(f"{path} can't be read: {error}", param_hint="FILE") from None


def answer_table(prediction: "Prediction") -> "Table":
    """A prediction for people: labels with their probability, a value, or numbers."""
    from rich.table import Table

    if prediction.value is not None:
        table = Table("value")
        table.add_row(f"{prediction.value:,.6g}")
    elif prediction.embedding is not None:
        table = Table("embedding")
        table.add_row(", ".join(f"{number:.4g}" for number in prediction.embedding))
    else:
        table = Table("label", "probability")
        for scored in prediction.top or ():
            table.add_row(scored.label, bar(scored.probability))
    return table


def models_table(found: "Models") -> "Table":
    """One row a version, and one for each checkpoint that can't be served."""
    from rich.table import Table
    from rich.text import Text

    table = Table("model", "version", "task", "held-out metric", "champion", "state")
    for model in found:
        for version in model.versions:
            champion = "yes" if model.aliases.get("champion") == version.version else ""
            metric = headline(version.metrics)
            table.add_row(model.name, version.version, model.task, metric, champion, _state(version))
    shown = {(model.name, version.version) for model in found for version in model.versions}
    for broken in found.broken:
        if (broken.model, broken.version) in shown:
            continue  # its row has the reason
        table.add_row(broken.model, broken.version, "", "", "", Text(f"broken: {broken.reason}", "red"))
    return table


def _state(version: "Version") -> "Text":
    """Where a version stands, what runs it, and why where that is a fault."""
    from rich.text import Text

    words = version.state.replace("_", " ")
    if version.state in ("failed", "no_room"):
        return Text(f"{words}: {version.reason}", "red")
    if version.state == "loaded" and not version.ready:
        return Text(f"{words}, not ready: {version.reason}", "red")
    if version.pinned:
        words += ", pinned"
    if (backend := version.backend) is not None and version.state == "loaded":
        words += f" ({backend.name} {backend.precision}{', to be optimised' if backend.pending else ''})"
    if version.state == "loaded" and version.reason:
        return Text(f"{words}; it could not be loaded anew: {version.reason}", "red")
    return Text(words)


def _columns(words: list[str]) -> Iterator[tuple[str, float]]:
    for word in words:
        name, equals, number = word.partition("=")
        try:
            value = float(number)
        except ValueError:
            continue
        if name and equals:
            yield name, value


def _read(path: Path) -> Any:
    match path.suffix.lower():
        case ".txt":
            return path.read_text(encoding="utf-8")
        case ".json":
            return json.loads(path.read_bytes())
        case ".npy":
            import numpy as np

            return np.load(path, allow_pickle=False)
        case _:
            return path.read_bytes()


def _present(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}
