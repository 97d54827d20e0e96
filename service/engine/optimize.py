"""python -m service.engine.optimize: try the back ends on a version, and keep what was found out.

Prints a line of JSON for each step, {"step", "of", "doing"}, and at the end {"evidence", "path", "missing"}.
"""

import argparse
import os
import sys
import threading
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import torch

from models.checkpoint import network_of
from models.checkpoint_files import CheckpointFiles
from models.manifest import WEIGHTS, BrokenCheckpoint
from service.engine.backends.base import Backend
from service.engine.backends.registry import BACKENDS, SLOW_TO_BUILD
from service.engine.choosing import choose
from service.engine.devices import CPU, GPU_LANES, open_device
from service.engine.heldout import rows_of
from service.engine.optimized import Cache, Evidence
from service.engine.quiet import NotQuiet, Timing, in_background
from service.engine.replica import samples_of
from service.engine.trials import AS_IT_COMES, Subject, candidates, num_steps, try_all
from service.process.lifetime import EXIT_NOT_QUIET


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0, 1 with the reason on stderr, or EXIT_NOT_QUIET."""
    parser = argparse.ArgumentParser(prog="python -m service.engine.optimize", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR", help="a checkpoint")
    parser.add_argument("--cache", type=Path, required=True, help="where evidence is kept")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="auto, cpu, cuda or cuda:N: what computes")
    parser.add_argument("--tolerance", type=float, default=0.2, help="points that the metric may be worse")
    parser.add_argument(
        "--max-busy",
        type=float,
        metavar="SHARE",
        help="run in the background: end with the parent, leave out what is slow to build, and give up where the "
        "threads wait for cores longer than this share of their time",
    )
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # stderr is for the reason
    try:
        device = open_device(options.device, torch.get_num_threads())
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    backends, timing = [b for b in BACKENDS if b.why_not(device) is None], AS_IT_COMES
    if options.max_busy is not None:
        threading.Thread(target=_end_with_parent, name="parent", daemon=True).start()
        backends = [b for b in backends if b.name not in SLOW_TO_BUILD]
        timing = in_background(options.max_busy)
    try:
        optimize(options.folder, options.cache, options.tolerance, backends, timing, device)
    except NotQuiet:
        return EXIT_NOT_QUIET
    except (BrokenCheckpoint, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def optimize(
    folder: Path,
    cache_folder: Path,
    tolerance: float,
    backends: Sequence[Backend],
    timing: Timing = AS_IT_COMES,
    device: torch.device = CPU,
) -> Evidence:
    """Try the back ends, keep the evidence, and print it. Raises BrokenCheckpoint, OSError and NotQuiet."""
    cache = Cache.of(cache_folder, device)
    torch.set_num_threads(cache.cores)
    threads = cache.cores if device.type == "cpu" else GPU_LANES
    files = CheckpointFiles(folder)
    manifest, weights = files.manifest, files.read(WEIGHTS)
    network = network_of(weights, manifest)
    rows = rows_of(files, network)
    subject = Subject(manifest, lambda: network_of(weights, manifest), samples_of(files), rows, tolerance, device)
    tried = candidates(backends, threads, device)
    step = 0

    def tell(doing: str) -> None:
        nonlocal step
        step += 1
        _say({"step": step, "of": num_steps(tried, timing), "doing": doing})

    trials = try_all(subject, tried, tell, timing)
    chosen = choose(trials, max_threads=threads)
    evidence = Evidence(
        model=manifest.model,
        version=manifest.version,
        digest=manifest.digest,
        measured_at=datetime.now(UTC).replace(microsecond=0),
        environment=cache.environment,
        cores=cache.cores,
        rows=rows.source,
        num_rows=len(rows.rows),
        metric=subject.metric,
        tolerance=tolerance,
        tried=trials,
        chosen=None if chosen is None else trials.index(chosen),
    )
    path = cache.write(manifest, evidence)
    _say({"evidence": evidence.model_dump(mode="json"), "path": str(path), "missing": _missing(device)})
    return evidence


def _missing(device: torch.device) -> dict[str, str]:
    """Why back ends were not tried; those of one name and reason in one line."""
    alike: dict[tuple[str, str], list[str]] = {}
    for backend in BACKENDS:
        if (reason := backend.why_not(device)) is not None:
            alike.setdefault((backend.name, reason), []).append(backend.precision)
    return {f"{name} {', '.join(precisions)}": reason for (name, reason), precisions in alike.items()}


def _end_with_parent() -> None:
    """The parent holds the other end of stdin open and writes nothing."""
    os.read(0, 1)  # sys.stdin has a lock, which the interpreter waits for at its end
    os._exit(1)


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(orjson.dumps(what).decode() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
