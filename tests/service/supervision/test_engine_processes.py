"""The engines that the supervisor starts: a slot, a socket, a device and a keeper each."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.domain import Ref
from service.process.folders import RuntimeFolder
from service.settings import Settings
from service.supervision.engine_processes import EngineProcesses
from service.supervision.process_tree import Child, ProcessTree
from service.telemetry.instruments import SupervisorTelemetry
from service.watch.blackbox import Doing, Running
from service.watch.evidence import Cause, Death
from service.watch.keeper import EngineKeeper

REF = Ref("m", 1)


class Tree(ProcessTree):
    """Notes what it was to keep."""

    def __init__(self, telemetry: SupervisorTelemetry) -> None:
        super().__init__(telemetry, lambda slot: None)
        self.kept: list[Child] = []

    def keep(self, child: Child) -> None:
        self.kept.append(child)


@pytest.fixture
def telemetry(registry: CollectorRegistry) -> SupervisorTelemetry:
    return SupervisorTelemetry(registry)


@pytest.fixture
def tree(telemetry: SupervisorTelemetry) -> Tree:
    return Tree(telemetry)


@pytest.fixture
def engines(tree: Tree, telemetry: SupervisorTelemetry, tmp_path: Path) -> Iterator[EngineProcesses]:
    with contextlib.ExitStack() as stack:
        yield EngineProcesses(Settings(watchdog_seconds=7.0), RuntimeFolder(tmp_path), {}, tree, telemetry, stack)


def test_each_engine_has_a_slot_a_socket_and_a_device_of_its_own(engines: EngineProcesses, tree: Tree) -> None:
    assert [engines.start("cuda:0"), engines.start("cuda:1")] == list(engines.slots) == ["engine-0", "engine-1"]
    assert [child.arguments for child in tree.kept] == [("--device", "cuda:0"), ("--device", "cuda:1")]
    for child in tree.kept:
        with socket.socket(socket.AF_UNIX) as asking:
            asking.connect(str(engines.path(child.slot)))


def test_an_engine_is_watched_for_as_many_seconds_as_the_settings_say(engines: EngineProcesses, tree: Tree) -> None:
    engines.start("cpu")
    (child,) = tree.kept
    assert isinstance(child.keeper, EngineKeeper)
    assert child.keeper._silent_seconds == 7.0


def test_a_pardon_reaches_the_evidence_of_its_slot_and_of_no_other(engines: EngineProcesses, tree: Tree) -> None:
    keepers = []
    for slot in (engines.start("cuda:0"), engines.start("cuda:1")):
        keeper = next(child.keeper for child in tree.kept if child.slot == slot)
        assert isinstance(keeper, EngineKeeper)
        for number in range(3):
            keeper.evidence.weigh(Death(number, Cause.CRASH, (Running(Doing.BATCH, REF, 1.0),), 1000.0 + number))
        keepers.append(keeper)
    engines.pardon("engine-0", REF)
    assert [list(keeper.evidence.verdicts.withdrawn) for keeper in keepers] == [[], [REF]]
