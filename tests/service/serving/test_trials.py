"""Which requests are a challenger's: what a share of keys means."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from models.preprocess import Tensors
from service.domain import Address, Ref, Rollout, Stage
from service.registry.catalog import Catalog
from service.registry.scanner import scan
from service.serving.mirroring import Answered
from service.serving.router import Router, Target, Trial
from service.serving.trials import Chosen, Trials, place_of
from service.store.base import State
from service.telemetry.instruments import HttpTelemetry
from tests.checkpoints import write_image, write_steps
from tests.fakes import sample

CHAMPION, CHALLENGER = Ref("clothes", 1), Ref("clothes", 2)
ROUTED = Address("clothes")
ALIASES = {"clothes": {"champion": 1, "challenger": 2}, "motion": {"champion": 1}}
SALTS = st.text("0123456789abcdef", min_size=32, max_size=32)
KEYS = st.text(min_size=1, max_size=256)
SHARES = st.floats(0, 1)
PIXELS = np.zeros((1, 28, 28), np.float32)


def rollout(stage: Stage = Stage.CANARY, share: float = 0.25, version: int = 2, paused: bool = False) -> Rollout:
    return Rollout("clothes", version, stage, share, "5a17" * 8, 0.0, 0.0, "ann", "", paused)


def state(*rollouts: Rollout, champion: int = 1) -> State:
    aliases = {**ALIASES, "clothes": {**ALIASES["clothes"], "champion": champion}}
    return State(1, aliases, rollouts={one.model: one for one in rollouts})


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    root: Path = tmp_path_factory.mktemp("models")
    write_image(root, version=1)
    write_image(root, version=2)
    write_steps(root, version=1)
    write_steps(root, version=2)
    return scan([root], ALIASES)


@pytest.fixture
def router(catalog: Catalog) -> Router:
    router = Router(catalog)
    router.use_state(state(rollout()))
    return router


class Offered:
    """In a mirror's place."""

    def __init__(self) -> None:
        self.offers: list[tuple[Ref, float]] = []

    def offer(self, ref: Ref, challenger: Target, answered: Answered, propensity: float) -> None:
        assert challenger.ref == ref
        self.offers.append((ref, propensity))


class Deciding:
    """Trials whose draws and engines a test decides on."""

    def __init__(self, router: Router, registry: CollectorRegistry) -> None:
        self.router = router
        self.registry = registry
        self.drawn = 0.0
        self.unready: set[Ref] = set()
        self.mirror = Offered()
        is_ready = lambda ref: ref not in self.unready  # noqa: E731
        self.trials = Trials(is_ready, self.mirror, HttpTelemetry(registry), lambda: self.drawn)

    def choose(self, key: str | None = None, rows: object = PIXELS) -> Chosen:
        trial = self.router.trial(ROUTED)
        assert trial is not None
        return self.trials.choose(trial, self.router.choose(ROUTED), rows, key)  # type: ignore[arg-type]

    def version(self, key: str | None = None) -> int:
        return self.choose(key).target.ref.version

    def counted(self, name: str, **labels: str) -> float:
        return sample(self.registry, name, {"model": "clothes", "version": "2", **labels})


@pytest.fixture
def deciding(router: Router, registry: CollectorRegistry) -> Deciding:
    return Deciding(router, registry)


# Places


@given(SALTS, KEYS)
def test_a_key_always_falls_in_the_same_place(salt: str, key: str) -> None:
    assert place_of(salt, key) == place_of(salt, key)
    assert 0 <= place_of(salt, key) < 1


@given(SALTS, KEYS, SHARES, SHARES)
def test_who_met_the_challenger_goes_on_meeting_it_as_the_share_grows(
    salt: str, key: str, share: float, more: float
) -> None:
    low, high = sorted((share, more))
    assert (place_of(salt, key) < low) <= (place_of(salt, key) < high)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.25, 0.5, 0.9])
def test_the_share_of_keys_is_the_share_that_is_wanted(share: float) -> None:
    count = 20_000
    met = sum(place_of("5a17" * 8, f"user-{number}") < share for number in range(count))
    assert abs(met - count * share) < 4 * math.sqrt(count * share * (1 - share))


def test_other_salts_send_other_keys_to_the_challenger() -> None:
    count, share = 20_000, 0.25
    keys = [f"user-{number}" for number in range(count)]
    first, second = ([place_of(salt * 8, key) < share for key in keys] for salt in ("5a17", "9e99"))
    both = sum(one and other for one, other in zip(first, second, strict=True))
    expected = count * share**2
    assert abs(both - expected) < 4 * math.sqrt(expected)


# Choices


def test_a_canary_answers_its_share_and_each_is_told_its_probability(deciding: Deciding) -> None:
    for drawn, expected in [(0.0, (2, 0.25)), (0.2499, (2, 0.25)), (0.25, (1, 0.75)), (0.99, (1, 0.75))]:
        deciding.drawn = drawn
        chosen = deciding.choose()
        assert (chosen.target.ref.version, chosen.propensity) == expected


def test_a_key_decides_alone_whatever_is_drawn(deciding: Deciding) -> None:
    keys = [f"user-{number}" for number in range(200)]
    first = [deciding.version(key) for key in keys]
    deciding.drawn = 0.99
    assert [deciding.version(key) for key in keys] == first
    assert set(first) == {1, 2}
    met = {key for key, version in zip(keys, first, strict=True) if version == 2}
    assert met == {key for key in keys if place_of("5a17" * 8, key) < 0.25}


def test_with_a_share_of_1_all_are_the_challengers(deciding: Deciding) -> None:
    deciding.router.use_state(state(rollout(share=1.0)))
    deciding.drawn = 0.999999
    assert deciding.choose()[1] == 1.0
    assert {deciding.version(f"user-{number}") for number in range(50)} == {2}


@pytest.mark.parametrize("why", ["not_ready", "not_here"])
def test_a_challenger_that_cannot_answer_leaves_all_to_the_champion(
    deciding: Deciding, catalog: Catalog, why: str
) -> None:
    if why == "not_ready":
        deciding.unready.add(CHALLENGER)
    else:
        without = catalog.without([CHALLENGER])
        deciding.router.use(without, deciding.router.prepare(without))
    for drawn, counted in [(0.0, 1), (0.9, 1)]:
        deciding.drawn = drawn
        chosen = deciding.choose()
        assert (chosen.target.ref, chosen.propensity) == (CHAMPION, 1.0)
        assert deciding.counted("servoloop_canary_fallbacks_total", reason=why) == counted


def test_rows_prepared_for_the_champion_are_for_nobody_else(deciding: Deciding) -> None:
    prepared = Tensors(np.zeros((1, 1, 28, 28), np.float32))
    chosen = deciding.choose(rows=prepared)
    assert (chosen.target.ref, chosen.propensity) == (CHAMPION, 1.0)
    assert deciding.counted("servoloop_canary_fallbacks_total", reason="prepared") == 1


def test_rows_that_no_version_prepares_are_for_every_version(deciding: Deciding) -> None:
    motion = Rollout("motion", 2, Stage.CANARY, 1.0, "5a17" * 8, 0.0, 0.0, "ann", "")
    deciding.router.use_state(state(motion))
    trial = deciding.router.trial(Address("motion"))
    assert trial is not None
    champion = deciding.router.choose(Address("motion"))
    steps = Tensors(np.zeros((2, 3), np.float32), np.array([2], np.int32))
    assert deciding.trials.choose(trial, champion, steps, None).target.ref == Ref("motion", 2)


def test_a_shadow_answers_nobody_and_computes_its_share(deciding: Deciding) -> None:
    deciding.router.use_state(state(rollout(Stage.SHADOW, share=0.25)))
    trial, champion = deciding.router.trial(ROUTED), deciding.router.choose(ROUTED)
    assert trial is not None
    assert deciding.choose() == Chosen(champion, 1.0)
    answered = Answered(PIXELS, None, None, ["an id"])  # type: ignore[arg-type]
    for deciding.drawn in (0.0, 0.25, 0.9):
        deciding.trials.answered(trial, champion, answered)
    assert deciding.mirror.offers == [(CHALLENGER, 0.25)]
    deciding.unready.add(CHALLENGER)
    for deciding.drawn in (0.0, 0.9):
        deciding.trials.answered(trial, champion, answered)
    assert deciding.counted("servoloop_mirrored_requests_total", outcome="not_ready") == 1


def test_a_canary_mirrors_nothing(deciding: Deciding) -> None:
    trial = deciding.router.trial(ROUTED)
    assert trial is not None
    answered = Answered(PIXELS, None, None, ["an id"])  # type: ignore[arg-type]
    deciding.trials.answered(trial, deciding.router.choose(ROUTED), answered)
    assert deciding.mirror.offers == []


# What the router follows


def test_who_names_a_version_or_an_alias_is_in_no_trial(router: Router) -> None:
    assert router.trial(ROUTED) == Trial(rollout(), router.choose(Address("clothes", version="2")))
    for address in (
        Address("clothes", version="1"),
        Address("clothes", alias="champion"),
        Address("clothes", alias="challenger"),
        Address("motion"),
    ):
        assert router.trial(address) is None


@pytest.mark.parametrize("ended", [[], [rollout(share=0.0)], [rollout(paused=True)]])
def test_a_rollout_that_ended_or_rests_concerns_nobody(router: Router, ended: list[Rollout]) -> None:
    router.use_state(state(*ended))
    assert router.trial(ROUTED) is None


def test_a_challenger_that_is_read_later_takes_part_from_then_on(catalog: Catalog) -> None:
    router = Router(catalog.without([CHALLENGER]))
    router.use_state(state(rollout()))
    assert router.trial(ROUTED) == Trial(rollout(), None)
    router.use(catalog, router.prepare(catalog))
    trial = router.trial(ROUTED)
    assert trial is not None
    assert trial.target is router.choose(Address("clothes", version="2"))


def test_a_promotion_moves_the_champion_and_ends_the_trial_together(router: Router) -> None:
    router.use_state(state(champion=2))
    assert (router.choose(ROUTED).ref, router.trial(ROUTED)) == (CHALLENGER, None)


def test_the_share_that_is_wanted_is_shown_and_nothing_of_what_ended(registry: CollectorRegistry) -> None:
    telemetry = HttpTelemetry(registry)

    def shown(stage: str) -> float:
        return sample(registry, "servoloop_rollout_share", {"model": "clothes", "version": "2", "stage": stage})

    telemetry.show_rollouts([rollout(Stage.SHADOW, share=0.5)])
    assert (shown("shadow"), shown("canary")) == (0.5, 0.0)
    telemetry.show_rollouts([rollout(Stage.CANARY, share=0.25)])
    assert (shown("shadow"), shown("canary")) == (0.0, 0.25)
    telemetry.show_rollouts([])
    assert shown("canary") == 0.0
