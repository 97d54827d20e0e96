"""The process that tries back ends, with a script in its place."""

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from service.process.lifetime import EXIT_NOT_QUIET
from service.reconciling import trial_process
from service.reconciling.optimizing import NotQuiet, TrialFailed
from service.reconciling.trial_process import TrialProcess, chosen_of

TRIAL = {"backend": "openvino", "precision": "bfloat16", "threads": 1, "rows_per_second": 4000.0, "verdict": "passed"}
FOUND = {"evidence": {"chosen": 1, "tried": [{}, TRIAL]}}
CHOSEN = {name: TRIAL[name] for name in ("backend", "precision", "threads", "rows_per_second")}


class Script:
    """What is run instead of Python."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._path = folder / "script"
        monkeypatch.setattr(sys, "executable", str(self._path))

    async def run(self, *lines: str) -> Any:
        self._path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
        self._path.chmod(0o755)
        return await TrialProcess(self.folder / "cache", dict(os.environ), 0.1)(self.folder / "checkpoint")

    def said(self, name: str) -> str:
        return (self.folder / name).read_text().strip()


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    return Script(tmp_path, monkeypatch)


async def test_what_it_says_last_is_what_was_chosen(script: Script) -> None:
    lines = ["echo '{\"step\": 1}'", f"echo '{json.dumps(FOUND)}'", f'echo "$@" > {script.folder}/arguments']
    assert await script.run(*lines) == CHOSEN
    words = f"-P -m service.engine.optimize {script.folder}/checkpoint --cache {script.folder}/cache --max-busy 0.1"
    assert script.said("arguments") == words


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the priority is all there is")
async def test_all_others_go_first(script: Script) -> None:
    # The script looks once what its parent does to it must be done.
    look = f"while [ $(cat /proc/$$/oom_score_adj) != 1000 ]; do :; done; cat /proc/$$/stat > {script.folder}/stat"
    await script.run(look, f"echo '{json.dumps(FOUND)}'")
    fields = script.said("stat").rpartition(")")[2].split()
    # proc(5): niceness is field 19 and the scheduling policy 41; the text after the name begins at field 3.
    assert (int(fields[16]), int(fields[38])) == (19, os.SCHED_IDLE)


async def test_no_quiet_is_told_apart_from_a_failure(script: Script) -> None:
    with pytest.raises(NotQuiet):
        await script.run(f"exit {EXIT_NOT_QUIET}")
    with pytest.raises(TrialFailed, match="holds no rows"):
        await script.run("echo 'evaluation.npz holds no rows' >&2", "exit 1")
    with pytest.raises(TrialFailed, match="it ended with -9"):
        await script.run("kill -9 $$")
    with pytest.raises(TrialFailed, match="did not say"):
        await script.run("exit 0")


async def test_one_that_takes_too_long_is_ended_and_has_failed(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_process, "_LONGEST_SECONDS", 0.0)
    with pytest.raises(TrialFailed, match="it took longer than 0 seconds"):
        await script.run("exec sleep 1000")


async def test_one_that_nobody_waits_for_any_more_is_ended(script: Script) -> None:
    os.mkfifo(script.folder / "pid")
    running = asyncio.create_task(script.run(f"echo $$ > {script.folder}/pid", "exec sleep 1000"))
    pid = int(await asyncio.to_thread(script.said, "pid"))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("line", [b"", b"{}", b'{"evidence": null}', b'{"evidence": {"chosen": 1, "tried": []}}', b"{"])
def test_what_is_no_evidence_is_a_failure(line: bytes) -> None:
    with pytest.raises(TrialFailed):
        chosen_of(line)


def test_nothing_that_passed_is_an_outcome_too() -> None:
    assert chosen_of(b'{"evidence": {"chosen": null, "tried": []}}') == {"backend": None}
