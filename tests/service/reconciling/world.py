"""Engines that do at once what they are told, and all that is known when it is decided what."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from models.manifest import Manifest
from service.domain import Execution, Precision, Ref, Wish
from service.reconciling.decision import Decision, EngineFacts, Facts, decide
from service.reconciling.failures import Attempt, attempt_of
from service.reconciling.progress import Progress
from service.reconciling.steps import Holding, Load, Replica, Unload
from service.registry.catalog import Catalog, Model, Version
from service.wire.report import DeviceReport, ReplicaReport, Report

A, B, C = Ref("a", 1), Ref("b", 1), Ref("c", 1)
SIZES = {A: 40, B: 40, C: 40}
FAST = Execution("openvino", Precision.BFLOAT16, 2, "it was measured")
PLAIN = Execution("eager", Precision.FLOAT32, 2, "nothing was tried here yet", pending=True)


def version(ref: Ref, size: int) -> Version:
    return Version(ref, Path(str(ref)), Manifest.model_construct(), f"identity of {ref}", size)


class World:
    """Engines with budgets in bytes; a load succeeds at once unless it is in `broken`."""

    def __init__(self, *budgets: int, sizes: Mapping[Ref, int] = SIZES) -> None:
        self.now = 1000.0
        self.versions = {ref: version(ref, size) for ref, size in sizes.items()}
        self.wishes: dict[Ref, Wish] = {}
        self.asked: dict[Ref, float] = {}
        self.loaded_at: dict[Ref, float] = {}
        self.aliases = {ref: {"champion": ref.version} for ref in sizes}
        self.broken: set[Ref | tuple[Ref, Precision]] = set()
        self.budgets = {f"engine-{number}": budget for number, budget in enumerate(budgets)}
        self.holdings: dict[str, Holding | None] = {slot: Holding() for slot in self.budgets}
        self.failures: dict[str, dict[Attempt, str]] = {slot: {} for slot in self.budgets}
        self.owed: dict[Ref, float] = {}
        self.gone: dict[str, float] = {}
        self.before: dict[str, Holding] = {}
        self.execution = FAST
        self.trials: dict[str, Progress] = {}

    @property
    def facts(self) -> Facts:
        models = {
            ref.model: Model(ref.model, {ref.version: one}, self.aliases[ref]) for ref, one in self.versions.items()
        }
        return Facts(
            now=self.now,
            scan=7,
            catalog=Catalog(models),
            wishes=self.wishes,
            engines=[self._engine(slot) for slot in self.budgets],
            asked=self.asked,
            owed=self.owed,
            loaded_at=self.loaded_at,
            trials=self.trials,
        )

    def settle(self) -> Decision:
        """Do what is decided until nothing is left to do."""
        for _ in range(20):
            decision = decide(self.facts)
            if not decision.commands:
                return decision
            for command in decision.commands:
                self.obey(command, decision)
        raise AssertionError("it never ends")

    def obey(self, command: Load | Unload, decision: Decision) -> None:
        holding = self.holdings[command.slot]
        assert holding is not None
        loaded = dict(holding.loaded)
        if isinstance(command, Unload):
            del loaded[command.ref]
        else:
            claim = decision.claims[command.ref]
            replica = Replica.of(claim)
            if command.ref in self.broken or (command.ref, claim.precision) in self.broken:
                self.failures[command.slot][attempt_of(claim)] = "it is broken"
            else:
                loaded[command.ref] = replica
        self.holdings[command.slot] = replace(holding, loaded=loaded)
        assert sum(replica.num_bytes for replica in loaded.values()) <= self.budgets[command.slot]

    def lies(self) -> dict[str, set[Ref]]:
        return {slot: set(holding.loaded) for slot, holding in self.holdings.items() if holding is not None}

    def lose(self, slot: str, seconds: float) -> None:
        """The engine is gone since so many seconds."""
        holding = self.holdings[slot]
        if holding is not None:
            self.before[slot] = holding
        self.holdings[slot] = None
        self.gone[slot] = seconds

    def _engine(self, slot: str) -> EngineFacts:
        holding = self.holdings[slot]
        shown = holding if holding is not None else self.before[slot]
        replicas = {
            ref: ReplicaReport(r.num_bytes, r.generation, r.precision, 0.0, self.execution, r.is_optimized)
            for ref, r in shown.loaded.items()
        }
        device = DeviceReport("cpu", self.budgets[slot], ("cpu",))
        report = Report(device, replicas, frozenset(), frozenset())
        return EngineFacts(slot, f"/{slot}.sock", report, holding, self.gone.get(slot, 0.0), self.failures[slot])
