"""How fast Servoloop is: alone, beside what this machine allows, and beside its peers."""

import argparse
import os
import signal
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.networks import CASES
from benchmarks.peers.catalog import PEERS, Backend
from benchmarks.peers.environments import DEFAULT
from benchmarks.report import cores


def main() -> None:
    """Read the command line and run one benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("what", choices=("limits", "serve", "start", "peers", "texts", "check", "gpu"))
    parser.add_argument("--quick", action="store_true", help="short windows: for a look, not for a claim")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file too")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="peers: draw the throughput")
    parser.add_argument(
        "--peer",
        nargs="+",
        action="extend",
        choices=tuple(PEERS),
        metavar="NAME",
        help=f"peers, texts: of {', '.join(PEERS)}",
    )
    parser.add_argument("--case", nargs="+", action="extend", metavar="NAME", help=f"these alone: {', '.join(CASES)}")
    parser.add_argument(
        "--venvs", type=Path, default=DEFAULT, metavar="DIR", help=f"the peers' environments: {DEFAULT}"
    )
    parser.add_argument("--optimised", action="store_true", help="peers: give them the network in bfloat16 by OpenVINO")
    parser.add_argument("--install", action="store_true", help="peers: make their environments, and stop")
    arguments = parser.parse_args()
    # So that servers are ended on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    console = Console()
    if (load := os.getloadavg()[0]) > cores() / 4:
        console.print(f"[yellow]this machine is busy (load average {load:.1f}): what follows is rough")
    quick, path, venvs = arguments.quick, arguments.json, arguments.venvs
    match arguments.what:
        case "limits":
            from benchmarks import limits

            limits.run(console, venvs, path, quick=quick)
        case "serve":
            from benchmarks import serve

            serve.run(console, path, quick=quick, cases=arguments.case)
        case "start":
            from benchmarks import start

            start.run(console, path, quick=quick)
        case "texts":
            from benchmarks import texts

            peers = texts.peers(arguments.peer)
            if not peers:
                parser.error(f"of the peers, {', '.join(texts.peers())} are measured on texts")
            texts.run(console, venvs, peers, path, quick=quick)
        case "check":
            from benchmarks import check

            check.run(console)
        case "gpu":
            from benchmarks import gpu

            gpu.run(console, path, quick=quick)
        case _:
            from benchmarks import compare
            from benchmarks.peers.environments import install

            names = arguments.peer or list(PEERS)
            if unknown := sorted(set(arguments.case or ()) - CASES.keys()):
                parser.error(f"there is no case {unknown[0]!r}; there are: {', '.join(CASES)}")
            if arguments.install:
                install(venvs, names, console)
            else:
                backend: Backend = "openvino" if arguments.optimised else "eager"
                what = compare.Comparison(names, arguments.case or list(CASES), backend, quick)
                compare.run(console, venvs, what, path, arguments.plot)


if __name__ == "__main__":
    main()
