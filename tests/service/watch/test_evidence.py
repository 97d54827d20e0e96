from dataclasses import replace

import pytest

from service.domain import Ref
from service.watch.blackbox import Doing, RowId, Running
from service.watch.evidence import Cause, Death, Evidence, Verdicts
from service.watch.history import History

REF, OTHER = Ref("m", 1), Ref("n", 1)
POISON, INNOCENT = b"p" * 16, b"i" * 16


class Deaths:
    """Engines that die one after another."""

    def __init__(self) -> None:
        self.evidence = Evidence()
        self.now = 1000.0
        self._incarnation = 0

    def of(
        self,
        *rows: RowId,
        ref: Ref = REF,
        digest: bytes = b"",
        cause: Cause = Cause.CRASH,
        doing: Doing = Doing.BATCH,
        after: float = 5.0,
        took: float = 1.0,
    ) -> None:
        self.now += after
        self._incarnation += 1
        running = Running(doing, ref, self.now - took, rows=rows, digest=digest)
        self.evidence.weigh(Death(self._incarnation, cause, (running,), self.now))

    def idle(self, cause: Cause = Cause.CRASH) -> None:
        self.now += 5
        self._incarnation += 1
        self.evidence.weigh(Death(self._incarnation, cause, (), self.now))

    @property
    def quarantined(self) -> set[bytes]:
        return set(self.evidence.verdicts.quarantined)

    @property
    def withdrawn(self) -> set[Ref]:
        return set(self.evidence.verdicts.withdrawn)


@pytest.fixture
def deaths() -> Deaths:
    return Deaths()


def test_an_input_is_quarantined_when_two_engines_died_while_running_it_alone(deaths: Deaths) -> None:
    deaths.of((1, 0), (2, 0), (3, 0))
    deaths.of((2, 0), digest=POISON)
    assert deaths.quarantined == set()
    deaths.of((2, 0), digest=POISON)
    assert deaths.quarantined == {POISON}
    assert deaths.withdrawn == set()


def test_the_same_input_from_another_request_is_the_same_input(deaths: Deaths) -> None:
    deaths.of((2, 0), digest=POISON)
    deaths.of((9, 0), digest=POISON, after=3600)
    assert deaths.quarantined == {POISON}


def test_a_batch_condemns_none_of_its_rows(deaths: Deaths) -> None:
    for _ in range(2):
        deaths.of((1, 0), (2, 0))
    assert deaths.quarantined == set()


@pytest.mark.parametrize("cause", [Cause.OUTSIDE, Cause.SILENT])
def test_a_kill_from_outside_condemns_nobody(deaths: Deaths, cause: Cause) -> None:
    for _ in range(10):
        deaths.of((1, 0), digest=POISON, cause=cause)
        deaths.of((1, 0), (2, 0), cause=cause)
        deaths.of(cause=cause, doing=Doing.LOAD)
        deaths.idle(cause)
    assert (deaths.quarantined, deaths.withdrawn) == (set(), set())
    assert all(not death.suspects for death in deaths.evidence.deaths)


@pytest.mark.parametrize("cause", [Cause.CRASH, Cause.HANG, Cause.DEVICE])
@pytest.mark.parametrize("doing", [Doing.BATCH, Doing.LOAD])
def test_a_version_is_taken_out_when_three_engines_died_in_a_minute_while_running_it(
    deaths: Deaths, cause: Cause, doing: Doing
) -> None:
    for number in range(3):
        assert deaths.withdrawn == set()
        deaths.of((number, 0), (number, 1), cause=cause, doing=doing)
    assert deaths.withdrawn == {REF}
    assert deaths.evidence.verdicts.withdrawn[REF].endswith(f"3 times within 60 seconds while running it ({cause})")


def test_deaths_further_apart_are_no_pattern(deaths: Deaths) -> None:
    for number in range(10):
        deaths.of((number, 0), after=31)
    assert deaths.withdrawn == set()


@pytest.mark.parametrize(("doing", "took"), [(Doing.BATCH, 30.0), (Doing.LOAD, 600.0)])
def test_the_time_for_which_an_engine_hung_keeps_no_version_from_being_taken_out(
    deaths: Deaths, doing: Doing, took: float
) -> None:
    for number in range(3):
        assert deaths.withdrawn == set()
        deaths.of((number, 0), cause=Cause.HANG, doing=doing, took=took, after=took + 10)
    assert deaths.withdrawn == {REF}


def test_an_engine_hung_since_the_first_of_its_overdue_runs_began() -> None:
    evidence = Evidence()
    for number in range(3):
        at = 1000.0 + 50 * number
        runs = tuple(Running(Doing.BATCH, REF, at - took) for took in (35.0, 30.0, 1.0))
        evidence.weigh(Death(number, Cause.HANG, runs, at))
    assert set(evidence.verdicts.withdrawn) == {REF}


def test_hangs_with_long_peace_between_them_are_no_pattern(deaths: Deaths) -> None:
    for number in range(10):
        deaths.of((number, 0), cause=Cause.HANG, took=30.0, after=30 + 31)
    assert deaths.withdrawn == set()


def test_what_crashed_after_long_runs_did_not_hang(deaths: Deaths) -> None:
    for _ in range(10):
        deaths.of(doing=Doing.LOAD, took=500.0, after=510)
    assert deaths.withdrawn == set()


def test_engines_that_die_of_several_versions_or_of_none_accuse_no_version(deaths: Deaths) -> None:
    for number in range(3):
        deaths.of((number, 0))
        deaths.of((number, 0), ref=OTHER)
    assert deaths.withdrawn == set()
    deaths.now += 3600
    deaths.of((1, 0))
    deaths.idle()
    deaths.of((2, 0))
    deaths.of((3, 0))
    assert deaths.withdrawn == set()


def test_two_inputs_of_one_batch_take_no_version_out(deaths: Deaths) -> None:
    deaths.of((1, 0), (2, 0))
    for digest, row in ((POISON, (1, 0)), (INNOCENT, (2, 0))) * 2:
        deaths.of(row, digest=digest)
    assert deaths.quarantined == {POISON, INNOCENT}
    assert deaths.withdrawn == set()


def test_a_version_that_ends_its_engine_with_every_input_is_taken_out(deaths: Deaths) -> None:
    for number in range(3):
        assert deaths.withdrawn == set()
        deaths.of((number, 0), after=4)
        for _ in range(2):
            if deaths.withdrawn:
                return
            deaths.of((number, 0), digest=bytes([number + 1] * 16), after=4)
    assert deaths.withdrawn == {REF}


def test_quarantine_is_bounded(deaths: Deaths) -> None:
    for number in range(1, 1100):
        for _ in range(2):
            deaths.of((number, 0), digest=number.to_bytes(16, "big"), after=3600)
    assert len(deaths.quarantined) == 1024
    assert (1099).to_bytes(16, "big") in deaths.quarantined


def test_a_successor_is_told_what_there_is_to_know(deaths: Deaths) -> None:
    deaths.of((1, 0), (2, 1))
    deaths.of((5, 0), cause=Cause.OUTSIDE)
    for _ in range(2):
        deaths.of((2, 1), digest=POISON)
    for number in range(3):
        deaths.of((number, 0), ref=OTHER, after=100 if number == 0 else 1)
    history = History.of(8, deaths.evidence.deaths, deaths.evidence.verdicts)
    assert history.suspects[1] == {(1, 0), (2, 1)}
    assert 2 not in history.suspects
    assert history.quarantined == {POISON: REF}
    assert set(history.withdrawn) == {OTHER}
    assert History.from_bytes(history.to_bytes()) == history


# Pardon


def condemn(deaths: Deaths, ref: Ref, digest: bytes) -> None:
    """Have an input quarantined, and its version taken out."""
    for _ in range(2):
        deaths.of((2, 1), ref=ref, digest=digest)
    for number in range(3):
        deaths.of((10 + number, 0), ref=ref, after=100 if number == 0 else 1)


def test_who_is_pardoned_is_held_nothing_against_and_others_are_still(deaths: Deaths) -> None:
    condemn(deaths, REF, POISON)
    condemn(deaths, OTHER, INNOCENT)
    deaths.evidence.pardon(REF)
    assert (deaths.quarantined, deaths.withdrawn) == ({INNOCENT}, {OTHER})


def test_deaths_before_a_pardon_count_no_more(deaths: Deaths) -> None:
    for number in range(2):
        deaths.of((number, 0))
    deaths.of((2, 1), digest=POISON)
    deaths.evidence.pardon(REF)
    for number in range(2):
        deaths.of((number, 0))
    deaths.of((2, 1), digest=POISON)
    assert (deaths.quarantined, deaths.withdrawn) == (set(), set())


def test_the_deaths_of_others_count_on_after_a_pardon(deaths: Deaths) -> None:
    for number in range(2):
        deaths.of((number, 0), ref=OTHER)
    deaths.evidence.pardon(REF)
    deaths.of((3, 0), ref=OTHER)
    assert deaths.withdrawn == {OTHER}


def test_what_inputs_of_others_are_suspected_of_counts_on_after_a_pardon(deaths: Deaths) -> None:
    deaths.of((1, 0), ref=OTHER, digest=POISON)
    deaths.evidence.pardon(REF)
    deaths.of((1, 0), ref=OTHER, digest=POISON)
    assert deaths.quarantined == {POISON}


def test_what_a_successor_was_told_does_not_change_under_it(deaths: Deaths) -> None:
    history = History.of(1, deaths.evidence.deaths, deaths.evidence.verdicts)
    condemn(deaths, REF, POISON)
    assert (history.quarantined, history.withdrawn) == ({}, {})


def test_a_pardon_of_who_was_never_accused_changes_nothing(deaths: Deaths) -> None:
    condemn(deaths, OTHER, INNOCENT)
    deaths.evidence.pardon(REF)
    assert (deaths.quarantined, deaths.withdrawn) == ({INNOCENT}, {OTHER})


def test_a_history_forgets_what_one_version_is_pardoned() -> None:
    history = History(4, {1: frozenset({(1, 0)})}, {POISON: REF, INNOCENT: OTHER}, {REF: "out", OTHER: "out"})
    assert history.pardon(REF) == History(4, history.suspects, {INNOCENT: OTHER}, {OTHER: "out"})


def side_by_side(incarnation: int, *refs: Ref) -> Death:
    running = tuple(Running(Doing.BATCH, ref, 1.0, rows=((number, 0),)) for number, ref in enumerate(refs))
    return Death(incarnation, Cause.CRASH, running, 1000.0 + incarnation)


def test_the_rows_of_all_batches_that_ran_side_by_side_are_suspects() -> None:
    assert side_by_side(1, REF, OTHER).suspects == ((0, 0), (1, 0))


def test_a_version_that_ran_at_every_death_is_taken_out_whatever_ran_beside_it() -> None:
    evidence = Evidence()
    evidence.weigh(side_by_side(1, REF, OTHER))
    evidence.weigh(side_by_side(2, REF))
    assert set(evidence.verdicts.withdrawn) == set()
    evidence.weigh(side_by_side(3, REF, REF))
    assert set(evidence.verdicts.withdrawn) == {REF}


def test_of_two_versions_that_ran_at_every_death_none_is_taken_out() -> None:
    evidence = Evidence()
    for incarnation in range(1, 6):
        evidence.weigh(side_by_side(incarnation, REF, OTHER))
    assert set(evidence.verdicts.withdrawn) == set()


def test_a_version_is_not_taken_out_for_the_death_of_another() -> None:
    evidence = Evidence()
    evidence.weigh(Death(1, Cause.CRASH, (), 1000.0))
    for incarnation in range(2, 5):
        evidence.weigh(replace(side_by_side(incarnation, REF), at=1000.0 + 5 * incarnation))
    alone = Running(Doing.BATCH, OTHER, 1.0, rows=((1, 0),), digest=POISON)
    evidence.weigh(Death(5, Cause.CRASH, (alone,), 1061.0))  # the first death is too long ago by now
    assert set(evidence.verdicts.withdrawn) == set()
    evidence.weigh(replace(side_by_side(6, REF), at=1062.0))
    assert set(evidence.verdicts.withdrawn) == {REF}


def test_an_input_of_another_version_is_no_excuse_for_one_that_ends_its_engines(deaths: Deaths) -> None:
    deaths.of((1, 0), (1, 1), ref=OTHER)
    for _ in range(2):
        deaths.of((9, 0), ref=OTHER, digest=POISON)  # under another id, as its request was taken apart
    assert deaths.quarantined == {POISON}
    for _ in range(3):
        assert deaths.withdrawn == set()
        deaths.of(doing=Doing.LOAD, after=1)
    assert deaths.withdrawn == {REF}


def test_an_input_of_a_request_that_was_taken_apart_counts_once_against_its_version(deaths: Deaths) -> None:
    deaths.of((1, 0), (1, 1))
    for _ in range(2):
        deaths.of((9, 0), digest=POISON)
    deaths.of((10, 0))
    assert (deaths.quarantined, deaths.withdrawn) == ({POISON}, set())
    deaths.of((11, 0))
    assert deaths.withdrawn == {REF}


def test_a_device_that_fails_under_whatever_runs_costs_no_version(deaths: Deaths) -> None:
    for number, ref in enumerate((REF, REF, OTHER, OTHER, OTHER, REF, OTHER, OTHER, REF, REF, REF)):
        deaths.of((number, 0), ref=ref, cause=Cause.DEVICE, after=5.5)
    assert deaths.withdrawn == set()


def loading(ref: Ref, beside: Running) -> tuple[Running, ...]:
    return beside, Running(Doing.LOAD, ref, 1.0)


def test_a_version_that_was_loading_at_each_death_is_taken_out_and_not_the_one_that_was_busy() -> None:
    evidence = Evidence()
    for incarnation in range(1, 4):
        assert set(evidence.verdicts.withdrawn) == set()
        busy = Running(Doing.BATCH, OTHER, 1.0, rows=((incarnation, 0),))
        evidence.weigh(Death(incarnation, Cause.CRASH, loading(REF, beside=busy), 1000.0 + incarnation))
    assert set(evidence.verdicts.withdrawn) == {REF}
    assert evidence.deaths[-1].suspects == ((3, 0),)


def test_a_suspect_is_judged_also_while_a_version_is_loading() -> None:
    evidence = Evidence()
    for incarnation in range(1, 5):
        suspect = Running(Doing.BATCH, OTHER, 1.0, rows=((1, 0),), digest=POISON)
        evidence.weigh(Death(incarnation, Cause.CRASH, loading(REF, beside=suspect), 1000.0 + incarnation))
    assert set(evidence.verdicts.quarantined) == {POISON}
    assert evidence.deaths[-1].versions == {OTHER}
    assert set(evidence.verdicts.withdrawn) == set()


def test_an_input_is_not_blamed_for_what_ran_beside_it() -> None:
    evidence = Evidence()
    for incarnation in range(1, 4):
        alone = Running(Doing.BATCH, REF, 1.0, rows=((1, 0),), digest=POISON)
        beside = Running(Doing.BATCH, OTHER, 1.0, rows=((2, 0),))
        evidence.weigh(Death(incarnation, Cause.CRASH, (alone, beside), 1000.0 + incarnation))
    assert set(evidence.verdicts.quarantined) == set()


# What is new


def test_a_verdict_is_new_once_until_it_is_pardoned() -> None:
    evidence = Evidence()

    def die(*running: Running, at: float) -> Verdicts:
        return evidence.weigh(Death(1, Cause.CRASH, running, at))

    batch, alone = Running(Doing.BATCH, REF, 1.0), Running(Doing.BATCH, OTHER, 1.0, rows=((1, 0),), digest=POISON)
    verdicts = [die(batch, at=1000.0 + number) for number in range(4)]
    assert [list(each.withdrawn) for each in verdicts] == [[], [], [REF], []]
    assert verdicts[2].withdrawn == {REF: evidence.verdicts.withdrawn[REF]}
    verdicts = [die(alone, at=2000.0 + 100 * number) for number in range(4)]
    assert [each.quarantined for each in verdicts] == [{}, {POISON: OTHER}, {}, {}]
    for ref in (REF, OTHER):
        evidence.pardon(ref)
    assert [list(die(batch, at=3000.0 + number).withdrawn) for number in range(3)] == [[], [], [REF]]
    assert [die(alone, at=4000.0 + 100 * number).quarantined for number in range(2)] == [{}, {POISON: OTHER}]
