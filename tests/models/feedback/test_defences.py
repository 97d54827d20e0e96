"""Labels that are wrong on purpose are found; a world that has changed is not taken for one."""

import numpy as np
import pytest

from models.feedback import defences
from models.feedback.defences import Opinion, Quarantined
from models.feedback.job import Defences

POLICY = Defences()
NUM_CLASSES = 4


class World:
    """Labelled rows of several actors, and a champion that is right in 97 % of a test set and of old rows."""

    def __init__(self, rows_of_actor: dict[str, int], seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.actors = np.concatenate([np.full(count, name) for name, count in rows_of_actor.items()])
        n = len(self.actors)
        self.test_truth, self.test_said = self._answered(600)
        self.targets, self.said = self._answered(n)
        self.inputs = np.array([f"input {number}" for number in range(n)])

    def _answered(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        truth = self.rng.integers(0, NUM_CLASSES, n)
        predicted = np.where(self.rng.random(n) < 0.97, truth, (truth + 1) % NUM_CLASSES)
        said = np.full((n, NUM_CLASSES), 0.01)
        said[np.arange(n), predicted] = 0.97
        return truth, said

    def flip(self, actor: str, share: float) -> np.ndarray:
        """Have an actor give another label to a share of its rows; where."""
        flipped = (self.actors == actor) & (self.rng.random(len(self.actors)) < share)
        self.targets[flipped] = (self.targets[flipped] + 2) % NUM_CLASSES
        return flipped

    def quarantined(self, policy: Defences = POLICY) -> list[Quarantined]:
        held = defences.opinion("multiclass", self.said, self.targets, self.test_said, self.test_truth, 0.5, policy)
        other = defences.otherwise("multiclass", self.said, self.targets, 0.5, held)
        return defences.quarantine(held, other, self.inputs, self.targets, self.actors, policy)


HONEST = {f"actor {number}": 60 for number in range(8)}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.4, 1.0])
def test_an_actor_who_flips_labels_is_caught_among_honest_ones(seed: int, share: float) -> None:
    world = World({**HONEST, "mallory": 60}, seed)
    flipped = world.flip("mallory", share)
    found = {row.index for row in world.quarantined()}
    assert len(found & set(np.flatnonzero(flipped))) >= 0.9 * flipped.sum()
    assert {world.actors[index] for index in found} == {"mallory"}
    assert "mallory contradicts a sure champion" in world.quarantined()[0].reason


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.2, 0.5, 1.0])
def test_a_change_of_the_world_in_which_all_contradict_the_champion_passes(seed: int, share: float) -> None:
    world = World({**HONEST, **{f"visitor {number}": 1 for number in range(50)}}, seed)
    for actor in np.unique(world.actors):
        world.flip(actor, share)
    assert world.quarantined() == []


@pytest.mark.parametrize("seed", range(20))
def test_honest_actors_are_left_alone(seed: int) -> None:
    assert World(HONEST, seed).quarantined() == []


def test_colluders_who_are_a_minority_are_caught() -> None:
    world = World({**HONEST, "mallory": 60, "mia": 60, "max": 60})
    for name in ("mallory", "mia", "max"):
        world.flip(name, 0.6)
    found = world.quarantined(Defences(most_quarantined=0.5))
    assert {world.actors[row.index] for row in found} == {"mallory", "mia", "max"}


def test_a_change_that_a_few_actors_see_first_is_not_eaten() -> None:
    world = World({**HONEST, "new camera": 300})
    world.flip("new camera", 1.0)
    assert len(world.quarantined()) == int(POLICY.most_quarantined * len(world.actors))
    assert world.quarantined(Defences(most_quarantined=0)) == []


def test_a_label_that_somebody_else_confirms_is_let_through() -> None:
    world = World({**HONEST, "mallory": 60})
    world.flip("mallory", 0.6)
    index = world.quarantined()[0].index
    world.inputs[0], world.targets[0], world.said[0] = world.inputs[index], world.targets[index], world.said[index]
    found = [row.index for row in world.quarantined()]
    assert index not in found
    assert found


def test_suspects_do_not_confirm_each_other() -> None:
    world = World({**HONEST, "mallory": 60, "mia": 60})
    for name in ("mallory", "mia"):
        world.flip(name, 1.0)
    mallory, mia = (np.flatnonzero(world.actors == name) for name in ("mallory", "mia"))
    for column in (world.inputs, world.targets, world.said):
        column[mia] = column[mallory]
    assert {world.actors[row.index] for row in world.quarantined()} == {"mallory", "mia"}


def test_a_lone_actor_and_nobody_known_are_suspected_of_nothing() -> None:
    for actors in ({"team": 200}, {"": 100, "team": 100}):
        world = World(actors)
        world.flip(next(iter(actors)), 0.8)
        assert world.quarantined() == []


def test_without_a_test_set_or_where_the_champion_errs_it_is_sure_of_nothing() -> None:
    world = World({**HONEST, "mallory": 60})
    world.flip("mallory", 1.0)
    world.test_truth, world.test_said = world.test_truth[:40], world.test_said[:40]
    assert world.quarantined() == []
    worse = World({**HONEST, "mallory": 60})
    worse.flip("mallory", 1.0)
    worse.test_truth[:100] = (worse.test_truth[:100] + 1) % NUM_CLASSES
    assert worse.quarantined() == []


def test_of_a_binary_label_the_loss_is_that_of_the_label_given() -> None:
    truth = np.tile([0, 1], 50)
    test_said = np.where(truth == 1, 0.99, 0.01)
    held = defences.opinion("binary", np.array([0.99, 0.99, 0.01]), np.array([1, 0, 1]), test_said, truth, 0.5, POLICY)
    np.testing.assert_allclose(held.loss, -np.log([0.99, 0.01, 0.01]))
    assert held.contradicts.tolist() == [False, True, True]


def test_values_are_contradicted_beyond_the_usual_error() -> None:
    truth = np.arange(100.0)
    said = np.array([10.0, 10.0, 10.0])
    held = defences.opinion("regression", said, np.array([11.0, 13.0, 50.0]), truth + 1, truth, 0.5, POLICY)
    assert held.loss.tolist() == [1, 3, 40]
    assert held.contradicts.tolist() == [False, False, True]
    assert defences.otherwise("regression", said, said, 0.5, held).tolist() == [False, True, True]


def test_saying_it_again_makes_it_no_truer() -> None:
    inputs, targets, actors = np.array(["x", "x", "x", "x"]), np.array([1, 1, 2, 1]), np.array(["a", "a", "a", "b"])
    assert defences.repeated(inputs, targets, actors).tolist() == [False, True, False, False]


def test_an_actor_gives_no_more_than_its_share() -> None:
    actors = np.array(["busy"] * 80 + ["other"] * 20)
    over = defences.over_cap(actors, 0.5, np.random.default_rng(0))
    assert (over & (actors == "busy")).sum() == 30
    assert not over[actors == "other"].any()


def test_a_lone_actor_has_no_cap_and_no_limit() -> None:
    actors = np.full(10, "team")
    assert not defences.over_cap(actors, 0.1, np.random.default_rng(0)).any()
    assert defences.limited(np.ones(10), actors, 0.1, 0).tolist() == [1] * 10


def test_sources_count_as_they_are_trusted() -> None:
    found = defences.trusted(np.array([1, 2, 3.0]), np.array(["app", "web", "x"]), {"app": 0.5, "web": 0})
    assert found.tolist() == [0.5, 0, 3]


def test_no_actor_is_more_than_its_share_of_what_is_learned_from_and_nobody_more_than_before() -> None:
    actors = np.array(["busy"] * 90 + ["other"] * 10)
    found = defences.limited(np.ones(100), actors, 0.3, others=100)
    assert found[actors == "busy"].sum() == pytest.approx(0.3 * 200)
    assert found[actors == "other"].tolist() == [1] * 10


def contradicting(*actors: tuple[str, int, int]) -> dict[str, str]:
    """Who is suspected, of actors with so many rows, and contradictions, where the champion is sure."""
    names = np.concatenate([np.full(rows, name) for name, rows, _ in actors])
    contradicts = np.concatenate([np.arange(rows) < hits for _, rows, hits in actors])
    held = Opinion(np.full(len(names), 4.0), np.ones(len(names), bool), contradicts)
    return defences.suspects(held, names, POLICY)


def test_what_may_be_chance_makes_nobody_suspected() -> None:
    assert contradicting(("ann", 200, 2), ("bob", 10, 2)) == {}
    assert contradicting(("ann", 200, 2), ("bob", 100, 20)).keys() == {"bob"}


def test_actors_of_few_rows_are_taken_together() -> None:
    seldom = [(f"seldom {number}", 2, number % 2 * 2) for number in range(50)]
    assert contradicting(("often", 100, 50), ("quiet", 20, 0)).keys() == {"often"}
    assert contradicting(("often", 100, 50), ("quiet", 20, 0), *seldom) == {}
