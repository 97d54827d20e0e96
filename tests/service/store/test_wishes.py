"""What is wanted of versions, and their deletion, on both databases."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from service.domain import Loading, Precision, Ref, Wish
from service.errors import StoreUnavailable, UnknownModel, UnknownVersion, VersionInUse, VersionUnloaded
from service.store.base import Filters, State, WishChange
from service.store.databases import Location, transaction
from service.store.sql_control import SqlControl, read_versions
from service.store.tables import versions
from tests.stores import OpenStore, a_record

FOUND = {"fashion": {1: "a" * 64, 2: "b" * 64}, "mood": {3: "c" * 64}}
CHAMPION, OTHER = Ref("fashion", 1), Ref("fashion", 2)


@pytest.fixture
def control(store: OpenStore) -> SqlControl:
    """With two versions of `fashion`, the first its champion, and one of `mood`."""
    store.control.crown_new_models(FOUND)
    return store.control


# Wishes


def test_nothing_is_wished_of_versions_that_are_new(control: SqlControl) -> None:
    assert control.state().wishes == {}


def test_a_wish_keeps_what_is_not_changed(control: SqlControl, reader: SqlControl) -> None:
    control.change_wish(OTHER, WishChange(loading=Loading.PINNED))
    wish = control.change_wish(OTHER, WishChange(replicas=2))
    assert wish == Wish(Loading.PINNED, replicas=2)
    assert reader.state().wishes == {OTHER: wish}


def test_each_real_change_of_a_wish_raises_the_revision_and_no_other(control: SqlControl) -> None:
    before = control.revision()
    control.change_wish(OTHER, WishChange(Loading.PINNED, 2))
    assert control.revision() == before + 1
    control.change_wish(OTHER, WishChange(Loading.PINNED, 2, Precision.FLOAT32))
    control.change_wish(CHAMPION, WishChange())
    assert control.revision() == before + 1


def test_a_wish_that_is_the_usual_one_again_is_none(control: SqlControl) -> None:
    control.change_wish(OTHER, WishChange(Loading.PINNED, 2))
    control.change_wish(OTHER, WishChange(Loading.AUTO, 1))
    assert control.state().wishes == {}


def test_loading_keeps_a_pin_and_ends_an_unloading(control: SqlControl) -> None:
    for before, after in [
        (Loading.UNLOADED, Loading.AUTO),
        (Loading.AUTO, Loading.AUTO),
        (Loading.PINNED, Loading.PINNED),
    ]:
        control.change_wish(OTHER, WishChange(before))
        assert control.change_wish(OTHER, WishChange(load=True)).loading is after
    assert control.change_wish(OTHER, WishChange(Loading.AUTO, load=True)).loading is Loading.AUTO


def test_each_reload_raises_the_generation(control: SqlControl) -> None:
    before = control.revision()
    assert [control.change_wish(CHAMPION, WishChange(reload=True)).generation for _ in range(2)] == [1, 2]
    assert control.revision() == before + 2


def test_another_precision_raises_the_generation_because_all_is_loaded_anew(control: SqlControl) -> None:
    assert control.change_wish(OTHER, WishChange(precision=Precision.BFLOAT16)).generation == 1
    assert control.change_wish(OTHER, WishChange(precision=Precision.BFLOAT16)).generation == 1
    assert control.change_wish(OTHER, WishChange(precision=Precision.FLOAT32, reload=True)).generation == 2


def test_a_version_that_an_alias_names_is_neither_unloaded_nor_deleted(control: SqlControl) -> None:
    control.move_alias("fashion", "trial", 1, actor="ann", reason="")
    before = control.state()
    what = "the aliases champion, trial of fashion would name nothing .* let them name another version first"
    with pytest.raises(VersionInUse, match=what):
        control.change_wish(CHAMPION, WishChange(Loading.UNLOADED))
    with pytest.raises(VersionInUse, match=what):
        control.delete_version(CHAMPION)
    assert control.state() == before


def test_a_whole_model_may_be_unloaded_though_aliases_name_its_versions(control: SqlControl) -> None:
    change = WishChange(Loading.UNLOADED, in_use_too=True)
    assert control.change_wish(CHAMPION, change).loading is Loading.UNLOADED
    assert control.aliases()["fashion"]["champion"] == CHAMPION.version
    assert control.change_wish(CHAMPION, WishChange(load=True)) == Wish()


def test_an_alias_does_not_move_to_an_unloaded_version(control: SqlControl) -> None:
    control.change_wish(OTHER, WishChange(Loading.UNLOADED))
    before = control.state()
    with pytest.raises(VersionUnloaded, match="fashion/2 is unloaded, as an operator wanted; load it first"):
        control.move_alias("fashion", "champion", 2, actor="ann", reason="")
    with pytest.raises(VersionUnloaded):
        control.change_wish(OTHER, WishChange(reload=True))
    assert control.state() == before
    control.change_wish(OTHER, WishChange(Loading.AUTO))
    assert control.move_alias("fashion", "champion", 2, actor="ann", reason="").version == 2


def test_nothing_is_wished_of_what_is_unknown(control: SqlControl) -> None:
    before = control.state()
    with pytest.raises(UnknownModel, match="there is: fashion, mood"):
        control.change_wish(Ref("nobody", 1), WishChange(reload=True))
    with pytest.raises(UnknownVersion, match="there is: 1, 2"):
        control.change_wish(Ref("fashion", 9), WishChange(reload=True))
    assert control.state() == before


# Deletion


def test_a_deleted_version_waits_for_the_removal_of_its_files(control: SqlControl, reader: SqlControl) -> None:
    before = control.revision()
    control.change_wish(OTHER, WishChange(Loading.PINNED))
    control.delete_version(OTHER)
    assert reader.state() == State(
        before + 2, {"fashion": {"champion": 1}, "mood": {"champion": 3}}, {}, frozenset({OTHER}), frozenset({OTHER})
    )
    control.note_removed(OTHER)
    state = reader.state()
    assert (state.revision, state.deleted, state.to_remove) == (before + 3, {OTHER}, frozenset())


def test_files_are_noted_as_removed_once_and_only_of_what_was_deleted(control: SqlControl) -> None:
    control.delete_version(OTHER)
    control.note_removed(OTHER)
    before = control.state()
    for ref in (OTHER, CHAMPION, Ref("nobody", 1)):
        control.note_removed(ref)
    assert control.state() == before


def test_a_deleted_version_is_unknown(control: SqlControl) -> None:
    control.delete_version(OTHER)
    before = control.state()
    with pytest.raises(UnknownVersion, match=r"there is: 1$"):
        control.delete_version(OTHER)
    with pytest.raises(UnknownVersion):
        control.change_wish(OTHER, WishChange(reload=True))
    with pytest.raises(UnknownVersion):
        control.move_alias("fashion", "champion", 2, actor="ann", reason="")
    assert control.state() == before


def test_a_deleted_model_leaves_its_history_and_its_predictions(store: OpenStore, control: SqlControl) -> None:
    store.predictions.append([a_record(), a_record(version=2)])
    control.change_wish(OTHER, WishChange(Loading.PINNED))
    before = control.revision()
    control.delete_model("fashion", [1, 2])
    state = control.state()
    assert (state.revision, state.aliases, state.wishes) == (before + 1, {"mood": {"champion": 3}}, {})
    assert state.deleted == state.to_remove == {CHAMPION, OTHER}
    assert len(control.history("fashion")) == 1
    assert len(store.predictions.list(Filters(model="fashion"), limit=10).records) == 2
    with pytest.raises(UnknownModel, match="there is: mood"):
        control.delete_model("fashion", [1, 2])
    with pytest.raises(UnknownModel):
        control.change_wish(CHAMPION, WishChange())
    assert control.revision() == before + 1


def test_a_model_deleted_in_two_steps_keeps_each_times_mark(control: SqlControl) -> None:
    control.delete_version(OTHER)
    control.note_removed(OTHER)
    control.delete_model("fashion", [1, 2])
    assert control.state().to_remove == {CHAMPION}


def test_a_version_is_deleted_once_whenever_the_rest_of_its_model_follows(
    store: OpenStore, control: SqlControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_clock", lambda: 1.0)
    control.delete_version(OTHER)
    monkeypatch.setattr(control, "_clock", lambda: 2.0)
    control.delete_model("fashion", [1, 2])
    with transaction(store.engines[0]) as connection:
        rows = connection.execute(select(versions.c.version, versions.c.deleted).where(versions.c.model == "fashion"))
        assert {row.version: row.deleted for row in rows} == {1: 2000, 2: 1000}


def test_a_folder_that_comes_back_under_a_deleted_number_is_neither_crowned_nor_remembered(
    control: SqlControl, caplog: pytest.LogCaptureFixture
) -> None:
    control.delete_model("fashion", [1, 2])
    before = control.state()
    assert control.crown_new_models({"fashion": {1: "0" * 64, 2: "b" * 64}}) == {"mood": {"champion": 3}}
    assert control.state() == before
    assert caplog.text == ""


def test_a_new_version_of_a_model_that_was_deleted_becomes_its_champion(control: SqlControl) -> None:
    control.delete_model("fashion", [1, 2])
    found = {"fashion": {**FOUND["fashion"], 5: "e" * 64}}
    assert control.crown_new_models(found)["fashion"] == {"champion": 5}
    assert control.change_wish(Ref("fashion", 5), WishChange()) == Wish()
    assert [move.version for move in control.history("fashion")] == [5, 1]
    assert control.move_alias("fashion", "champion", 5, actor="ann", reason="").previous is None


def test_aliases_of_deleted_versions_are_not_taken_over_from_elsewhere(control: SqlControl) -> None:
    control.delete_model("fashion", [1, 2])
    before = control.state()
    control.import_aliases({"fashion": {"champion": 1}})
    assert control.state() == before


def test_every_version_ever_seen_can_be_read_where_no_service_runs(control: SqlControl, location: Location) -> None:
    control.delete_version(OTHER)
    assert read_versions(location, "fashion") == {1: False, 2: True}
    assert read_versions(location, "nobody") == {}


def test_where_there_is_no_store_no_version_was_seen(location: Location) -> None:
    assert read_versions(location, "fashion") == {}


# One revision


def test_a_state_is_never_a_mixture_of_two_revisions(store: OpenStore, reader: SqlControl) -> None:
    def change() -> None:
        for number in range(1, 16):
            store.control.crown_new_models({"fashion": {number: "a" * 64}})
            store.control.delete_model("fashion", [number])

    def read() -> list[State]:
        states = [reader.state()]
        while states[-1].revision < 30:
            try:
                states.append(reader.state())
            except StoreUnavailable:  # SQLite, while a commit runs
                continue
        return states

    with ThreadPoolExecutor(2) as pool:
        changing, reading = pool.submit(change), pool.submit(read)
        changing.result()
        states = reading.result()
    for state in states:
        crowned, deleted = state.revision % 2, state.revision // 2
        expected = {"fashion": {"champion": deleted + 1}} if crowned else {}
        assert state.aliases == expected
        assert {ref.version for ref in state.deleted} == set(range(1, deleted + 1))


def test_of_a_deleted_model_only_what_is_named_is_marked(control: SqlControl) -> None:
    control.change_wish(OTHER, WishChange(Loading.PINNED))
    control.delete_model("fashion", [1])
    state = control.state()
    assert state.deleted == {CHAMPION}
    assert set(state.wishes) == {OTHER}
    assert "fashion" not in state.aliases
    # It comes back with its disk.
    assert control.crown_new_models({"fashion": {2: "b" * 64}})["fashion"] == {"champion": 2}
