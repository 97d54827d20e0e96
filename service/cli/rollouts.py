"""`servoloop rollout`, `promote` and `rollback`: a version on a share of the traffic, and how that ends."""

from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.connecting import DEFAULT_URL, Url, connected
from service.cli.output import failure
from service.domain import Stage

if TYPE_CHECKING:
    from servoloop import Decision, Rollout

_Model = Annotated[str, typer.Argument(metavar="MODEL")]
_Reason = Annotated[str, typer.Option(help="Kept in the model's history.")]

# Longer than the service waits for a version to be loaded.
_SECONDS = 60.0


def rollout(
    model: _Model,
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", min=1, help="Without it, the trial is only shown.")
    ] = None,
    stage: Annotated[
        Stage | None,
        typer.Option(help="Compute beside the champion, or answer in its place.", show_default="as it is"),
    ] = None,
    share: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of the requests that name no version.", show_default="as it is"),
    ] = None,
    pause: Annotated[
        bool | None, typer.Option("--pause/--resume", help="Leave all to the champion.", show_default="as it is")
    ] = None,
    reason: _Reason = "",
    url: Url = DEFAULT_URL,
) -> None:
    """Put a version on trial on a share of the traffic, change its trial, or show it."""
    with connected(url, timeout=_SECONDS) as client:
        if version is not None:
            found = client.set_rollout(model, version, reason=reason, stage=stage, share=share, paused=pause)
        elif (stage, share, pause) != (None, None, None):
            raise failure("name the version that shall be on trial so")
        else:
            found = client.rollout(model)
    typer.echo(_told(found))


def promote(
    model: _Model,
    version: Annotated[
        int | None, typer.Argument(metavar="VERSION", min=1, help="The one on trial unless it is given.")
    ] = None,
    reason: _Reason = "",
    expected: Annotated[
        int | None, typer.Option(min=1, help="Only if this is the champion now.", show_default="any")
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Make the version on trial the champion."""
    with connected(url, timeout=_SECONDS) as client:
        decision = client.promote(model, version, reason=reason, expected=expected)
    typer.echo(f"{_champion(decision)} To take it back: servoloop rollback {model}")


def rollback(
    model: _Model,
    reason: _Reason = "",
    expected: Annotated[
        int | None,
        typer.Option(min=1, help="Only if this is on trial now, or else the champion.", show_default="any"),
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """End a version's trial; where nothing is on trial, go back to the champion before."""
    with connected(url, timeout=_SECONDS) as client:
        decision = client.roll_back(model, reason=reason, expected=expected)
    ended = decision.before["rollout"]
    if ended is None:
        typer.echo(_champion(decision))
    else:
        champion = decision.after["champion"]
        typer.echo(f"The trial of {model}/{ended['version']} is over; {model}/{champion} answers all.")


def _told(found: "Rollout") -> str:
    does = "answers" if found.stage == Stage.CANARY else "computes, without being returned,"
    of = f"{found.share:.4g} of the requests that name no version"
    name = f"{found.model}/{found.version}"
    if found.paused:
        return f"The trial of {name} is paused, and the champion answers all. Resumed, it {does} {of}."
    return f"{name} is on trial as a {found.stage}: it {does} {of}."


def _champion(decision: "Decision") -> str:
    before, after = decision.before["champion"], decision.after["champion"]
    was = f"version {before}" if before else "none"
    return f"The champion of {decision.model} is version {after}; before, it was {was}."
