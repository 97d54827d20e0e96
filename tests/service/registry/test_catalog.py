import shutil
from pathlib import Path
from typing import Any

import orjson
import pytest

from models.manifest import MANIFEST, WEIGHTS
from service.domain import Address, Ref
from service.errors import NotReady, UnknownAlias, UnknownModel, UnknownVersion
from service.registry.catalog import CHANGED, NOT_HERE_YET, Broken, Catalog
from service.registry.scanner import scan
from tests import checkpoints


def change(folder: Path, **fields: Any) -> None:
    manifest = orjson.loads((folder / MANIFEST).read_bytes())
    (folder / MANIFEST).write_bytes(orjson.dumps({**manifest, **fields}))


def refs(catalog: Catalog) -> list[str]:
    return [str(version.ref) for version in catalog.versions()]


def only_broken(catalog: Catalog) -> Broken:
    (broken,) = catalog.broken
    return broken


# What is found


def test_every_checkpoint_under_a_root_is_found(root: Path) -> None:
    catalog = scan([root], {})
    assert refs(catalog) == ["clothes/1", "clothes/2", "mood/1", "rent/1"]
    assert catalog.broken == []


def test_versions_are_sorted_as_numbers(tmp_path: Path) -> None:
    for version in (10, 9, 1):
        checkpoints.write_columns(tmp_path, version=version)
    assert refs(scan([tmp_path], {})) == ["rent/1", "rent/9", "rent/10"]


def test_a_root_that_is_missing_is_empty(tmp_path: Path) -> None:
    assert scan([tmp_path / "nothing"], {}) == Catalog()


def test_names_that_are_no_model_or_version_are_somebody_elses(root: Path) -> None:
    for name in ("UPPER/1", ".hidden/1", "clothes/01", "clothes/v3", "clothes/.3-draft", "clothes/latest", "clothes/0"):
        shutil.copytree(root / "clothes" / "1", root / name)
    (root / "README.md").write_text("notes")
    (root / "notes").write_text("notes")
    catalog = scan([root], {})
    assert refs(catalog) == ["clothes/1", "clothes/2", "mood/1", "rent/1"]
    assert catalog.broken == []


def test_roots_are_searched_in_their_order_and_add_up(root: Path, tmp_path: Path) -> None:
    more = tmp_path / "registered"
    checkpoints.write_image(more, version=3)
    checkpoints.write_vector(more)
    assert refs(scan([root, more], {})) == ["clothes/1", "clothes/2", "clothes/3", "mood/1", "rent/1", "sensors/1"]


# What is broken is said, and the others serve


def break_weights(folder: Path) -> None:
    path = folder / WEIGHTS
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (break_weights, f"{WEIGHTS} is not the file that {MANIFEST} names: its sha256 differs"),
        (lambda folder: (folder / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
        (lambda folder: (folder / MANIFEST).unlink(), f"{MANIFEST} is missing"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "is no JSON"),
        (lambda folder: change(folder, model="other"), "the manifest says other/2, the folder clothes/2"),
        (lambda folder: change(folder, version=3), "the manifest says clothes/3, the folder clothes/2"),
        (lambda folder: change(folder, surprise=1), "surprise: Extra inputs are not permitted"),
        (
            lambda folder: change(folder, labels=[str(i) for i in range(10)]),
            "its labels differs from that of clothes/1, and all versions of a model share it",
        ),
        (
            lambda folder: change(folder, input={"kind": "image", "channels": 1, "height": 28, "width": 27}),
            "its input differs from that of clothes/1",
        ),
        (lambda folder: change(folder, task="multilabel"), "its task differs from that of clothes/1"),
        (
            lambda folder: change(folder, files={WEIGHTS: {"sha256": "0" * 64, "size": 1 << 60}}),
            f"{MANIFEST} says {1 << 60}",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_broken_checkpoint_is_reported_and_the_others_serve(root: Path, damage: Any, reason: str) -> None:
    damage(root / "clothes" / "2")
    catalog = scan([root], {})
    broken = only_broken(catalog)
    assert (broken.model, broken.version) == ("clothes", "2")
    assert reason in broken.reason
    assert refs(catalog) == ["clothes/1", "mood/1", "rent/1"]


def test_of_two_versions_that_differ_the_one_with_the_lower_number_serves(tmp_path: Path) -> None:
    checkpoints.write_image(tmp_path, version=9)
    checkpoints.write_image(tmp_path, version=10, labels=["one", "other"])
    catalog = scan([tmp_path], {})
    assert refs(catalog) == ["clothes/9"]
    assert only_broken(catalog).version == "10"


def test_the_same_version_in_two_roots_is_served_from_the_first(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "clothes" / "2", tmp_path / "registered" / "clothes" / "2")
    catalog = scan([root, tmp_path / "registered"], {})
    assert only_broken(catalog) == Broken("clothes", "2", "clothes/2 is there already, in another model root")
    assert catalog.models["clothes"].versions[2].folder.is_relative_to(root.resolve())


def test_a_version_that_is_a_link_out_of_its_root_is_refused(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "clothes" / "2", tmp_path / "2")
    (root / "clothes" / "2").symlink_to(tmp_path / "2")
    assert only_broken(scan([root], {})).reason == "the folder is a link that leads out of its model root"


def test_a_model_that_is_a_link_out_of_its_root_is_refused(root: Path, tmp_path: Path) -> None:
    shutil.move(root / "mood", tmp_path / "mood")
    (root / "mood").symlink_to(tmp_path / "mood")
    catalog = scan([root], {})
    assert only_broken(catalog).model == "mood"
    assert "mood" not in catalog.models


def test_a_root_may_itself_be_a_link(root: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").symlink_to(root)
    assert len(refs(scan([tmp_path / "linked"], {}))) == 4


def test_a_link_to_a_sibling_version_is_another_versions_manifest(root: Path) -> None:
    (root / "clothes" / "3").symlink_to("2")
    assert only_broken(scan([root], {})).reason == "the manifest says clothes/2, the folder clothes/3"


def test_a_file_where_a_version_should_be_is_reported(root: Path) -> None:
    (root / "clothes" / "3").write_text("no folder")
    assert only_broken(scan([root], {})).reason == "this is no folder"


def test_a_model_all_of_whose_versions_are_broken_is_unknown(root: Path) -> None:
    (root / "rent" / "1" / WEIGHTS).unlink()
    with pytest.raises(UnknownModel):
        scan([root], {}).model("rent")


def refuse(monkeypatch: pytest.MonkeyPatch, refused: Path, method: str, error: Exception) -> None:
    """Have one method of one path fail: who runs tests as root may read everything."""
    usual = getattr(Path, method)

    def fail(path: Path, *arguments: Any) -> Any:
        if path == refused:
            raise error
        return usual(path, *arguments)

    monkeypatch.setattr(Path, method, fail)


def test_a_models_folder_that_cant_be_read_is_broken_and_others_serve(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, root / "clothes", "iterdir", PermissionError(13, "Permission denied", str(root)))
    catalog = scan([root], {})
    assert only_broken(catalog) == Broken("clothes", "", "the model's folder can't be read: Permission denied")
    assert refs(catalog) == ["mood/1", "rent/1"]


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied", "/secret"), RuntimeError("Symlink loop from '/secret'")]
)
def test_a_version_that_cant_be_read_is_broken_and_others_serve(
    root: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    refuse(monkeypatch, root / "clothes" / "2" / MANIFEST, "is_symlink", error)
    catalog = scan([root], {})
    broken = only_broken(catalog)
    assert (broken.model, broken.version) == ("clothes", "2")
    assert broken.reason.startswith("the folder can't be read")
    assert "secret" not in broken.reason
    assert refs(catalog) == ["clothes/1", "mood/1", "rent/1"]


def test_links_that_lead_to_one_another_end_nothing(root: Path) -> None:
    (root / "rent" / "2").symlink_to("3")
    (root / "rent" / "3").symlink_to("2")
    (root / "loop").symlink_to("loop")
    catalog = scan([root], {})
    assert [(broken.model, broken.version) for broken in catalog.broken] == [("rent", "2"), ("rent", "3")]
    assert refs(catalog) == ["clothes/1", "clothes/2", "mood/1", "rent/1"]


def test_a_root_that_cant_be_read_leaves_the_others(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "locked").mkdir()
    refuse(monkeypatch, tmp_path / "locked", "iterdir", PermissionError(13, "Permission denied"))
    assert len(refs(scan([tmp_path / "locked", root], {}))) == 4


# What an address names


@pytest.fixture
def catalog(root: Path) -> Catalog:
    return scan([root], {"clothes": {"champion": 2, "gone": 7}, "mood": {}})


@pytest.mark.parametrize(
    ("address", "ref"),
    [
        (Address("clothes"), Ref("clothes", 2)),
        (Address("clothes", alias="champion"), Ref("clothes", 2)),
        (Address("clothes", version="1"), Ref("clothes", 1)),
        (Address("mood", version="1"), Ref("mood", 1)),
    ],
)
def test_an_address_names_a_version(catalog: Catalog, address: Address, ref: Ref) -> None:
    assert catalog.find(address).ref == ref


def test_a_broken_one_that_is_asked_for_is_refused_with_its_reason(root: Path) -> None:
    (root / "mood" / "1" / "manifest.json").write_text("{}")
    shutil.copytree(root / "clothes" / "1", root / "clothes" / "3")
    catalog = scan([root], {})
    reasons = {f"{one.model}/{one.version}": one.reason for one in catalog.broken}
    assert reasons.keys() == {"mood/1", "clothes/3"}
    with pytest.raises(UnknownModel) as model:
        catalog.named(Address("mood"))
    assert str(model.value).endswith(f"there is: clothes, rent; what lies there is broken: mood/1: {reasons['mood/1']}")
    with pytest.raises(UnknownVersion) as version:
        catalog.named(Address("clothes", version="3"))
    assert str(version.value).endswith(f"there is: 1, 2; what lies there is broken: clothes/3: {reasons['clothes/3']}")
    with pytest.raises(UnknownVersion) as absent:
        catalog.named(Address("clothes", version="4"))
    assert "broken" not in str(absent.value)


def test_unknown_names_are_told_with_those_that_are_known(catalog: Catalog) -> None:
    with pytest.raises(UnknownModel) as model:
        catalog.find(Address("shoes"))
    assert model.value.known == ["clothes", "mood", "rent"]
    with pytest.raises(UnknownVersion) as version:
        catalog.find(Address("clothes", version="3"))
    assert version.value.known == ["1", "2"]
    with pytest.raises(UnknownAlias) as alias:
        catalog.find(Address("clothes", alias="canary"))
    assert alias.value.known == ["champion", "gone"]


def test_a_model_without_a_champion_has_no_default(catalog: Catalog) -> None:
    with pytest.raises(UnknownAlias):
        catalog.find(Address("mood"))
    with pytest.raises(UnknownAlias):
        catalog.find(Address("rent"))
    assert catalog.models["rent"].champion is None


def test_an_alias_of_a_missing_version_is_not_ready(catalog: Catalog) -> None:
    with pytest.raises(NotReady) as raised:
        catalog.find(Address("clothes", alias="gone"))
    assert raised.value.ref == Ref("clothes", 7)


def test_what_versions_share_is_there_without_a_champion(catalog: Catalog) -> None:
    assert catalog.models["mood"].contract.kind == "text"
    assert catalog.models["clothes"].example.ref == Ref("clothes", 2)
    assert catalog.models["rent"].example.ref == Ref("rent", 1)


# What engines have, and this process can't serve


def test_what_this_process_can_t_serve_is_known_and_not_ready(root: Path) -> None:
    found = scan([root], {})
    identities = {version.ref: version.identity for version in found.versions()}
    there = {**identities, Ref("mood", 1): "another", Ref("clothes", 2): "another", Ref("clothes", 3): "new"}
    aliases = {"clothes": {"champion": 1, "next": 3}, "mood": {"champion": 1}}
    kept = found.only(there).with_aliases(aliases)
    assert refs(kept) == ["clothes/1", "rent/1"]
    assert kept.withheld == {Ref("mood", 1): CHANGED, Ref("clothes", 2): CHANGED, Ref("clothes", 3): NOT_HERE_YET}
    for address, ref, reason, seconds in (
        (Address("mood"), Ref("mood", 1), CHANGED, 30),
        (Address("mood", version="1"), Ref("mood", 1), CHANGED, 30),
        (Address("clothes", version="2"), Ref("clothes", 2), CHANGED, 30),
        (Address("clothes", alias="next"), Ref("clothes", 3), NOT_HERE_YET, 1),
    ):
        assert kept.named(address) == ref
        with pytest.raises(NotReady, match=reason) as raised:
            kept.find(address)
        assert raised.value.retry_after == seconds
    with pytest.raises(UnknownVersion):
        kept.named(Address("mood", version="2"))
    with pytest.raises(UnknownAlias):
        kept.named(Address("mood", alias="next"))
    assert kept.refs("clothes") == [Ref("clothes", 1), Ref("clothes", 2), Ref("clothes", 3)]


def test_what_became_broken_is_withheld_for_its_change(root: Path) -> None:
    identities = {version.ref: version.identity for version in scan([root], {}).versions()}
    break_weights(root / "mood" / "1")
    assert scan([root], {}).only(identities).withheld == {Ref("mood", 1): CHANGED}


def test_an_alias_whose_version_is_gone_says_what_to_do(catalog: Catalog) -> None:
    with pytest.raises(NotReady, match="let the alias gone of clothes name another version"):
        catalog.find(Address("clothes", alias="gone"))
