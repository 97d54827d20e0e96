"""`servoloop drift`: how far a version's latest predictions are from those that it was measured on."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connecting import DEFAULT_URL, Url, connected
from service.cli.output import Json, console, listed, shown
from service.cli.pictures import Picture, save

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from servoloop import Compared, Drift, EstimatedAccuracy

_SECONDS = 60.0
# Of more inputs, those that are farthest.
_MOST_SHOWN = 20
_AS_BEFORE = "as in the reference"


def drift(
    model: Annotated[str, typer.Argument(metavar="MODEL")],
    version: Annotated[int | None, typer.Option(min=1, help="Of this version.", show_default="champion")] = None,
    rows: Annotated[
        int | None,
        typer.Option(min=100, max=10_000, help="Of so many of its latest predictions.", show_default="as configured"),
    ] = None,
    picture: Picture = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show how far a version's latest predictions are from those that it was measured on."""
    with connected(url, timeout=_SECONDS) as client:
        found = client.drift(model, version, rows)
        if as_json:
            typer.echo(json.dumps(asdict(found), ensure_ascii=False))
        else:
            _show(found, rows)
        save(picture, lambda form: client.drift_picture(model, form, version=version, rows=rows))


def summary(found: "Drift") -> str:
    """What can be said, in a line."""
    since = f" since {found.since[:16]}" if found.since else ""
    of = f"{found.model}, version {found.version}, {found.n} latest predictions{since}"
    if found.drifted is None:
        return f"{of}: nothing can be said of drift yet"
    if found.inputs and all(one.drifted is False for _, one in _compared(found)):
        return f"{of}: {_AS_BEFORE}"
    return f"{of}: {'; '.join(_parts(found))}"


def distances_table(found: "Drift") -> "Table":
    """What was compared, the farthest first."""
    from rich.table import Table

    table = Table("what", "PSI", "by chance", "Jensen-Shannon, bits", "rows", "verdict")
    compared = _compared(found)
    if compared:
        _, first = compared[0]
        bounds = f"PSI above {first.psi_threshold:g} or Jensen-Shannon above {first.jensen_shannon_threshold:g}"
        table.caption = f"drifted: {bounds}, and PSI above what chance gives"
    for name, one in compared[:_MOST_SHOWN]:
        figures = (_number(value) for value in (one.psi, one.psi_noise, one.jensen_shannon))
        table.add_row(name, *figures, str(one.n), _verdict(one))
    return table


def estimate(found: "EstimatedAccuracy") -> str:
    """How good the predictions seem, by what that is known, and how far it was right before."""
    calibrated = {
        "labels": f"as {found.calibration_n} labels calibrate that",
        "reference": f"as the reference's {found.calibration_n} rows calibrate that",
    }.get(found.calibrated_by, "taken at its word, as nothing calibrates that yet")
    seems = f"Estimated accuracy: {shown(found.figure)}, by how sure it is, {calibrated}."
    labels = found.scored_actual.n
    if not labels:
        return f"{seems}\nNo prediction of the last day has a label yet, to tell how good the estimate is."
    expected, actual = shown(found.scored_estimated), shown(found.scored_actual)
    return f"{seems}\nOf {labels} predictions of the last day that have a label: estimated {expected}, actual {actual}."


def advice(found: "Drift", rows: int | None) -> Iterator[str]:
    """Why something can't be said, and what to do about it."""
    if not found.reference_rows:
        yield (
            f"There is nothing to compare with: {found.reference_reason or 'its reference has no rows'}. "
            "`servoloop train` writes a reference beside the weights."
        )
    if not found.n:
        yield "It has predicted nothing within a day: servoloop predict, or ask again once it has."
    elif found.n < found.minimum_n:
        few = f"{found.n} predictions are too few: something is said of {found.minimum_n} or more"
        more = f"ask with --rows {found.minimum_n}" if rows is not None and rows <= found.n else "ask again later"
        yield f"{few}; {more}."
    if found.reference_rows and found.n and not found.inputs:
        yield (
            "No inputs of these predictions were kept as they came, so that inputs can't be compared: "
            "with SERVOLOOP_CAPTURE=sample a service keeps some."
        )


def _show(found: "Drift", rows: int | None) -> None:
    typer.echo(summary(found))
    compared = _compared(found)
    if compared:
        console().print(distances_table(found))
    if len(compared) > _MOST_SHOWN:
        typer.echo(f"... and {len(compared) - _MOST_SHOWN} more that are nearer.")
    if found.estimated_accuracy is not None:
        typer.echo(estimate(found.estimated_accuracy))
    for line in advice(found, rows):
        typer.echo(line)


def _compared(found: "Drift") -> "list[tuple[str, Compared]]":
    every = [(f"input {name}", one) for name, one in found.inputs.items()]
    every += [(name, one) for name, one in _alone(found) if one is not None]
    return sorted(every, key=lambda named: -1.0 if named[1].psi is None else named[1].psi, reverse=True)


def _alone(found: "Drift") -> "list[tuple[str, Compared | None]]":
    return [("predictions", found.predictions), ("confidence", found.confidence)]


def _parts(found: "Drift") -> Iterator[str]:
    """What drifted, what did not, and of what that can't be said."""
    drifted = sorted((name for name, one in found.inputs.items() if one.drifted), key=lambda name: -_psi(found, name))
    if drifted:
        yield f"inputs drifted: {listed(drifted)}"
    elif found.inputs:
        is_said = any(one.drifted is False for one in found.inputs.values())
        yield _said("inputs", False if is_said else None)
    for name, one in _alone(found):
        if one is not None:
            yield _said(name, one.drifted)


def _said(name: str, drifted: bool | None) -> str:
    return f"too few to say of {name}" if drifted is None else f"{name} {'drifted' if drifted else _AS_BEFORE}"


def _psi(found: "Drift", name: str) -> float:
    return found.inputs[name].psi or 0.0


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"


def _verdict(one: "Compared") -> "Text":
    from rich.text import Text

    if one.drifted is None:
        return Text(one.reason or "nothing can be said")
    return Text("drifted", "red") if one.drifted else Text(_AS_BEFORE)
