"""The engine processes that the supervisor runs: each slot has a socket, a device and a keeper."""

import contextlib
from collections.abc import Collection
from pathlib import Path

from service.domain import Ref
from service.process.folders import RuntimeFolder, listen_unix
from service.settings import Settings
from service.supervision.process_tree import Child, ProcessTree
from service.telemetry.instruments import SupervisorTelemetry
from service.watch.keeper import EngineKeeper

# Once the http processes have ended nobody waits for an engine, so it has nothing to finish.
_STOP_SECONDS = 5.0


class EngineProcesses:
    """Starts engines, one a device, in a process tree; their sockets are closed with `stack`."""

    def __init__(
        self,
        settings: Settings,
        folder: RuntimeFolder,
        environment: dict[str, str],
        tree: ProcessTree,
        telemetry: SupervisorTelemetry,
        stack: contextlib.ExitStack,
    ) -> None:
        self._settings = settings
        self._folder = folder
        self._environment = environment
        self._tree = tree
        self._telemetry = telemetry
        self._stack = stack
        self._keepers: dict[str, EngineKeeper] = {}

    @property
    def slots(self) -> Collection[str]:
        """Of those that were started."""
        return self._keepers.keys()

    def path(self, slot: str) -> Path:
        """Where the engine in this slot answers."""
        return self._folder.engine_socket(slot)

    def start(self, device: str) -> str:
        """Have an engine run on a device, from now on; its slot."""
        slot = f"engine-{len(self._keepers)}"
        listener = self._stack.enter_context(listen_unix(self.path(slot)))
        settings = self._settings
        keeper = self._keepers[slot] = EngineKeeper(
            self._folder.engine_watch(slot),
            settings.max_batch_rows,
            settings.threads,
            settings.watchdog_seconds,
            self._telemetry,
        )
        arguments = ("--device", device)
        self._tree.keep(Child(slot, "service.engine", arguments, (listener,), self._environment, _STOP_SECONDS, keeper))
        return slot

    def pardon(self, slot: str, ref: Ref) -> None:
        """Hold nothing against a version any more that the deaths in this slot were evidence of."""
        self._keepers[slot].evidence.pardon(ref)
