"""The current label, as a function of what was said."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.store.feedback import FeedbackEvent, ModelContract, misfit, truth_of
from tests.stores import an_event

KINDS = ["label", "correction", "rating", "retraction"]


def said(number: int, value: Any = "Bag", **fields: Any) -> FeedbackEvent:
    """An event that came as the `number`th, and says what was so at that time."""
    return an_event(id=f"{number:036}", value=value, **{"labelled_at": number, **fields})


def label_of(*events: FeedbackEvent) -> Any:
    label = truth_of(events).label
    return None if label is None else label.value


def test_nothing_is_known_where_nothing_was_said() -> None:
    assert truth_of([]) == (None, None, None)


def test_a_prediction_was_first_labelled_when_the_first_label_came_whatever_became_of_it() -> None:
    rating = said(1, 3.0, kind="rating", received_at=10)
    first = said(2, "Bag", received_at=20)
    correction = said(3, "Coat", kind="correction", received_at=30, supersedes=first.id)
    assert truth_of([rating]).first_labelled is None
    assert truth_of([correction, rating, first]) == (correction, rating, 20)


def test_the_label_found_last_counts_whenever_it_arrived() -> None:
    assert label_of(said(1, "Bag"), said(2, "Coat")) == "Coat"
    assert label_of(said(1, "Bag", labelled_at=9), said(2, "Coat")) == "Bag"
    assert label_of(said(1, "Bag", labelled_at=9), said(2, "Coat", labelled_at=9)) == "Coat"


def test_a_trusted_source_counts_before_a_later_one() -> None:
    assert label_of(said(1, "Bag", trust=3), said(2, "Coat"), said(3, "Boot")) == "Bag"


def test_a_correction_is_a_label_too() -> None:
    assert label_of(said(1, "Bag"), said(2, "Coat", kind="correction")) == "Coat"


def test_what_is_superseded_counts_no_more_however_late_it_was_found() -> None:
    first = said(1, "Bag", labelled_at=9)
    assert label_of(first, said(2, "Coat", supersedes=first.id)) == "Coat"


def test_less_trusted_sources_supersede_nothing_of_others() -> None:
    first = said(1, "Bag", trust=3)
    assert label_of(first, said(2, "Coat", supersedes=first.id)) == "Bag"
    assert label_of(first, said(2, None, kind="retraction", supersedes=first.id)) == "Bag"


def test_a_superseding_event_that_is_superseded_itself_supersedes_nothing() -> None:
    first = said(1, "Bag", labelled_at=9)
    second = said(2, "Coat", supersedes=first.id)
    third = said(3, None, kind="retraction", supersedes=second.id)
    assert label_of(first, second, third) == "Bag"


def test_nothing_supersedes_what_came_after_it() -> None:
    second = said(2, "Coat")
    assert label_of(said(1, "Bag", supersedes=second.id), second) == "Coat"
    assert label_of(said(1, "Bag", supersedes=said(1).id)) == "Bag"


def test_a_retraction_of_one_event_leaves_the_others() -> None:
    second = said(2, "Coat")
    assert label_of(said(1, "Bag"), second, said(3, None, kind="retraction", supersedes=second.id)) == "Bag"


def test_a_retraction_takes_back_what_was_found_before_it() -> None:
    taken_back = said(3, None, kind="retraction")
    truth = truth_of([said(1), said(2, 4, kind="rating"), taken_back])
    assert (truth.label, truth.rating) == (None, None)
    assert label_of(said(1), taken_back, said(4, "Boot")) == "Boot"
    assert label_of(said(1, trust=3), taken_back) == "Bag"
    assert label_of(said(1, labelled_at=3), taken_back) is None
    assert label_of(said(4, labelled_at=3), taken_back) == "Bag"


def test_a_rating_is_no_label_and_a_label_no_rating() -> None:
    truth = truth_of([said(1, "Bag"), said(2, 4, kind="rating"), said(3, 5, kind="rating")])
    assert truth.label is not None
    assert truth.rating is not None
    assert (truth.label.value, truth.rating.value) == ("Bag", 5)


EVENTS = st.lists(
    st.builds(
        said,
        st.integers(0, 9),
        st.sampled_from(["Bag", "Coat"]),
        kind=st.sampled_from(KINDS),
        trust=st.integers(0, 2),
        labelled_at=st.integers(0, 3),
        supersedes=st.none() | st.integers(0, 9).map(lambda number: f"{number:036}"),
    ),
    max_size=8,
    unique_by=lambda event: event.id,
)


@given(events=EVENTS, data=st.data())
def test_neither_order_nor_duplicates_nor_delay_change_what_is_known_in_the_end(
    events: list[FeedbackEvent], data: st.DataObject
) -> None:
    expected = truth_of(events)
    again = data.draw(st.lists(st.sampled_from(events), max_size=4)) if events else []
    assert truth_of(data.draw(st.permutations([*events, *again]))) == expected


@given(events=EVENTS)
def test_what_counts_was_said_and_is_not_superseded_by_anything_that_stands(events: list[FeedbackEvent]) -> None:
    truth = truth_of(events)
    assert all(event is None or event in events for event in (truth.label, truth.rating))


@pytest.mark.parametrize(
    ("task", "kind", "value", "wrong"),
    [
        ("multiclass", "label", "Bag", None),
        ("multiclass", "correction", "Hat", "'Hat' is no label of the model; expected one of Bag, Coat"),
        ("multiclass", "label", 8, "8 is no label of the model; expected one of Bag, Coat"),
        ("multiclass", "label", ["Bag"], "there are several labels; expected one"),
        ("binary", "label", "Coat", None),
        ("multilabel", "label", ["Bag", "Coat"], None),
        ("multilabel", "label", [], None),
        ("multilabel", "label", "Bag", None),
        ("multilabel", "label", ["Bag", "Hat"], "'Hat' is no label of the model; expected one of Bag, Coat"),
        ("regression", "label", 1.5, None),
        ("regression", "label", 7, None),
        ("regression", "label", "Bag", "'Bag' is no number; expected a value, as a regression has"),
        ("regression", "label", True, "True is no number; expected a value, as a regression has"),
        ("embedding", "label", "Bag", "the model gives vectors, which have no label; expected a rating"),
        ("embedding", "rating", 1, None),
        ("multiclass", "retraction", None, None),
    ],
)
def test_a_label_must_be_one_that_the_model_can_give(task: str, kind: Any, value: Any, wrong: str | None) -> None:
    assert misfit(kind, value, ModelContract(task, ("Bag", "Coat"))) == wrong


def test_of_many_labels_a_few_are_told() -> None:
    contract = ModelContract("multiclass", tuple(f"l{number}" for number in range(1000)))
    wrong = misfit("label", "x" * 1000, contract)
    assert wrong is not None
    assert wrong.endswith("l18, l19, ...")
    assert len(wrong) < 300
