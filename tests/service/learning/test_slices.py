"""Groups of predictions that differ in a tag."""

from typing import Any

import numpy as np
import pytest

from service.learning.live import LiveModel, Selection
from service.learning.slices import slices
from service.store.base import Known
from service.store.feedback import ModelContract
from tests.stores import a_record

CLOTHES = ModelContract("multiclass", ("Bag", "Coat"))
SPAM = ModelContract("binary", ("ham", "spam"))
RENT = ModelContract("regression", ())


def known(outputs: dict[str, Any], label: Any, tags: dict[str, str]) -> Known:
    return Known(a_record().id, "any", 1, "answered", label, 1, None, 1, outputs, None, tags)


def bags(hits: int, misses: int, **tags: str) -> list[Known]:
    bag = {"label": "Bag", "index": 0, "probability": 0.9}
    return [known(bag, "Bag" if index < hits else "Coat", tags) for index in range(hits + misses)]


def found(contract: ModelContract, rows: list[Known], tag: str = "country", **selection: Any) -> dict[str, Any]:
    model = LiveModel(contract)
    model.take(rows)
    return slices(model, Selection(**selection), tag, lambda name: len(name))


def test_groups_are_measured_beside_the_rest() -> None:
    rows = [*bags(90, 10, country="DE"), *bags(40, 40, country="FR"), *bags(20, 0)]
    told = found(CLOTHES, rows)
    assert (told["tag"], told["minimum_n"], told["suppressed"], told["omitted"]) == ("country", 30, [], 0)
    german, french = told["groups"]
    assert (german["slice"], german["n"], german["predictions"]) == ("country:DE", 100, 10)
    assert (french["slice"], french["n"]) == ("country:FR", 80)
    assert french["metrics"]["accuracy"]["value"] == 0.5
    assert "f1_macro" in french["metrics"]
    difference = french["differences"]["accuracy"]
    assert difference["value"] == pytest.approx(0.5 - 110 / 120)
    assert difference["high"] < 0
    assert told["worst"] == {"slice": "country:FR", "is_shown": True}


def test_a_group_that_is_worst_by_chance_is_not_shown_to_be() -> None:
    told = found(CLOTHES, [*bags(36, 4, country="DE"), *bags(35, 5, country="FR")])
    assert told["worst"] == {"slice": "country:FR", "is_shown": False}


def test_the_more_groups_the_wider_are_differences() -> None:
    two = [*bags(36, 4, country="DE"), *bags(30, 10, country="FR")]
    more = [row for name in "ABCDEF" for row in bags(18, 12, other=name)]
    [_, alone] = found(CLOTHES, [*two, *more])["groups"]
    many = found(CLOTHES, [*two, *(row._replace(tags={"country": row.tags["other"]}) for row in more)])  # type: ignore[index]
    among = next(one for one in many["groups"] if one["slice"] == "country:FR")
    width = [one["differences"]["accuracy"]["high"] - one["differences"]["accuracy"]["low"] for one in (alone, among)]
    assert width[0] < width[1]


def test_small_groups_are_named_alone() -> None:
    told = found(CLOTHES, [*bags(30, 0, country="DE"), *bags(20, 9, country="FR")])
    assert [group["slice"] for group in told["groups"]] == ["country:DE"]
    assert told["suppressed"] == ["country:FR"]


def test_other_tags_and_other_predictions_are_left_out() -> None:
    rows = [*bags(40, 0, country="DE", tier="a"), *bags(40, 0, tier="b"), *bags(30, 10, countryside="yes")]
    assert [group["slice"] for group in found(CLOTHES, rows)["groups"]] == ["country:DE"]
    assert found(CLOTHES, rows, "planet") == {
        "tag": "planet", "minimum_n": 30, "groups": [], "worst": None, "suppressed": [], "omitted": 0,
    }  # fmt: skip
    assert found(CLOTHES, rows, slice="tier:b")["groups"] == []


def test_too_many_groups_are_left_out_from_the_smallest() -> None:
    rows = [row for number in range(34) for row in bags(31 + number, 0, country=f"c{number}")]
    told = found(CLOTHES, rows)
    assert (len(told["groups"]), told["omitted"]) == (32, 2)
    assert told["groups"][0]["slice"] == "country:c33"


def test_of_yes_and_no_groups_differ_in_who_is_taken_for_yes() -> None:
    """Demographic parity by positive_rate, equal opportunity by recall, equalised odds with false_positive_rate."""

    def answer(spam: bool) -> dict[str, Any]:
        return {"label": "spam" if spam else "ham", "index": int(spam), "probability": 0.9}

    rows = [known(answer(i < 30), "spam" if i % 2 else "ham", {"group": "a"}) for i in range(40)]
    rows += [known(answer(i < 10), "spam" if i % 2 else "ham", {"group": "b"}) for i in range(40)]
    first, second = found(SPAM, rows, "group")["groups"]
    for name in ("positive_rate", "recall", "false_positive_rate"):
        assert first["differences"][name]["value"] == pytest.approx(0.5)
        assert second["differences"][name]["value"] == pytest.approx(-0.5)
    assert first["differences"]["recall"]["n"] == 40
    assert first["differences"]["accuracy"]["value"] == 0.0


def test_of_numbers_the_group_with_the_largest_error_is_worst() -> None:
    rng = np.random.default_rng(0)
    rows = [known({"value": 10.0}, 10.0 + float(rng.normal(0, 1)), {"country": "DE"}) for _ in range(60)]
    rows += [known({"value": 10.0}, 10.0 + float(rng.normal(0, 5)), {"country": "FR"}) for _ in range(60)]
    told = found(RENT, rows)
    assert told["worst"] == {"slice": "country:FR", "is_shown": True}
    assert all(set(group["differences"]) == {"mae"} for group in told["groups"])
