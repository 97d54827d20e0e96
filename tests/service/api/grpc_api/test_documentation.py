"""docs/inference-protocol.md names every method and every status of gRPC."""

from grpc import StatusCode

from service.grpc_api.methods import SERVICE
from service.grpc_api.statuses import CRASH, STATUS
from tests.pages import ROOT, names, section, table

PAGE = section(ROOT / "docs" / "inference-protocol.md", "gRPC")


def test_every_status_has_its_row() -> None:
    said = {StatusCode[name] for row in table(PAGE, "status") for name in names(row[0])}
    assert said == {*STATUS.values(), CRASH.code}


def test_every_method_is_named() -> None:
    assert all(f"`{method.name}`" in PAGE for method in SERVICE.methods)
