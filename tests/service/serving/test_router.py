import shutil
from pathlib import Path

import numpy as np
import pytest

from service.domain import Address, Ref
from service.errors import NotReady, UnknownAlias, UnknownModel, UnknownVersion
from service.registry.catalog import Catalog, Version
from service.registry.scanner import scan
from service.serving.router import Router
from service.store.base import Aliases, State
from tests.checkpoints import write_image, write_text, write_vector

ALIASES: Aliases = {"clothes": {"champion": 1, "challenger": 2}, "mood": {"champion": 1}, "rent": {"champion": 1}}


@pytest.fixture
def router(root: Path) -> Router:
    return Router(scan([root], ALIASES))


@pytest.mark.parametrize(
    ("address", "version"),
    [
        (Address("clothes"), 1),
        (Address("clothes", alias="challenger"), 2),
        (Address("clothes", version="2"), 2),
    ],
)
def test_the_champion_answers_unless_another_is_named(router: Router, address: Address, version: int) -> None:
    assert router.choose(address).ref == Ref("clothes", version)


def test_an_address_is_looked_up_once_in_a_catalog(router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[Address] = []
    find = Catalog.find

    def counted(catalog: Catalog, address: Address) -> Version:
        looked.append(address)
        return find(catalog, address)

    monkeypatch.setattr(Catalog, "find", counted)
    addresses = [Address("clothes"), Address("mood"), Address("clothes", version="2")]
    for _ in range(2):
        assert [router.choose(address).ref for address in addresses] == [
            Ref("clothes", 1),
            Ref("mood", 1),
            Ref("clothes", 2),
        ]
    assert looked == addresses


@pytest.mark.parametrize(
    ("address", "error"),
    [
        (Address("shoes"), UnknownModel),
        (Address("clothes", version="3"), UnknownVersion),
        (Address("clothes", version="01"), UnknownVersion),
        (Address("clothes", version="1/../2"), UnknownVersion),
        (Address("clothes", alias="canary"), UnknownAlias),
    ],
)
def test_a_name_that_names_nothing_is_unknown(router: Router, address: Address, error: type[Exception]) -> None:
    with pytest.raises(error):
        router.choose(address)


def test_each_version_prepares_rows_its_own_way(router: Router) -> None:
    pixels = np.full((1, 1, 28, 28), 255, np.uint8)
    np.testing.assert_allclose(router.choose(Address("clothes")).preprocess(pixels).values, 1)
    tensors = router.choose(Address("mood")).preprocess(["a good film"])
    assert tensors.values.tolist() == [2, 3, 5]


def test_a_version_whose_files_vanish_after_the_scan_is_not_ready_and_others_are(root: Path) -> None:
    catalog = scan([root], ALIASES)
    (root / "mood" / "1" / "vocabulary.json").unlink()
    router = Router(catalog)
    with pytest.raises(NotReady, match=r"^mood/1 is not ready: its preprocessing could not be loaded$") as raised:
        router.choose(Address("mood"))
    assert raised.value.ref == Ref("mood", 1)
    assert router.choose(Address("rent")).ref == Ref("rent", 1)


def test_the_log_names_the_version_that_could_not_be_prepared_and_why(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalog = scan([root], ALIASES)
    (root / "mood" / "1" / "vocabulary.json").unlink()
    Router(catalog)
    (record,) = caplog.records
    said = vars(record)
    assert (record.levelname, said["ref"]) == ("ERROR", "mood/1")
    assert "vocabulary.json" in said["reason"]


def test_other_aliases_hold_for_what_is_routed_from_then_on(router: Router) -> None:
    before, target = router.catalog, router.choose(Address("clothes"))
    router.use_state(State(1, {"clothes": {"champion": 2}, "gone": {"champion": 1}}))
    assert router.choose(Address("clothes")).ref == Ref("clothes", 2)
    assert target.ref == Ref("clothes", 1)
    # Whoever looked before goes on to see one state, not half of the next.
    assert before.models["clothes"].aliases == ALIASES["clothes"]
    with pytest.raises(UnknownAlias):
        router.choose(Address("clothes", alias="challenger"))
    assert "gone" not in router.catalog.models


def test_versions_that_come_and_go_are_routed_from_then_on(router: Router, root: Path) -> None:
    before = router.catalog
    known = router.choose(Address("mood"))
    write_vector(root, "sensors", version=5)
    shutil.rmtree(root / "clothes" / "2")
    catalog = scan([root], {})
    router.use(catalog, router.prepare(catalog))
    assert router.choose(Address("sensors", version="5")).ref == Ref("sensors", 5)
    with pytest.raises(UnknownVersion):
        router.choose(Address("clothes", version="2"))
    assert before.models["clothes"].versions.keys() == {1, 2}
    assert router.choose(Address("mood")) is known, "what was prepared is not prepared again"


def test_an_alias_moves_here_once_its_version_is_here(router: Router, root: Path) -> None:
    router.use_state(State(1, {**ALIASES, "clothes": {"champion": 3}}))
    assert router.choose(Address("clothes")).ref == Ref("clothes", 1), "it has not read version 3 yet"
    write_image(root, version=3)
    catalog = scan([root], {})
    router.use(catalog, router.prepare(catalog))
    assert router.choose(Address("clothes")).ref == Ref("clothes", 3)


def test_an_alias_of_a_version_that_went_away_is_not_ready(router: Router, root: Path) -> None:
    shutil.rmtree(root / "mood")
    write_text(root, version=2)
    catalog = scan([root], {})
    router.use(catalog, router.prepare(catalog))
    with pytest.raises(NotReady):
        router.choose(Address("mood"))


def test_an_alias_moves_at_once_where_the_version_it_named_is_gone_too(router: Router, root: Path) -> None:
    router.use_state(State(1, {**ALIASES, "clothes": {"champion": 3}}))
    shutil.rmtree(root / "clothes" / "1")
    catalog = scan([root], {})
    router.use(catalog, router.prepare(catalog))
    assert router.catalog.models["clothes"].aliases == {"champion": 3}


def test_a_version_with_other_content_is_prepared_anew(router: Router, root: Path) -> None:
    shutil.rmtree(root / "mood")
    write_text(root, max_characters=7)
    catalog = scan([root], ALIASES)
    router.use(catalog, router.prepare(catalog))
    target = router.choose(Address("mood"))
    assert target.identity == catalog.models["mood"].versions[1].identity
    assert target.manifest == catalog.models["mood"].versions[1].manifest
