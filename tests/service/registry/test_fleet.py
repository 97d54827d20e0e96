import orjson

from service.domain import Ref
from service.registry.fleet import EngineInfo, Standing, VersionState, View

VIEW = View(
    3,
    (EngineInfo("engine-0", "/run/e0.sock", "cuda:0"), EngineInfo("engine-1", "/run/e1.sock")),
    {
        Ref("fashion", 1): Standing(VersionState.LOADED, "ab" * 32, None, ("engine-0",), 4096, generation=2),
        Ref("fashion", 2): Standing(VersionState.FAILED, "cd" * 32, "its weights hold NaN"),
    },
)


def test_a_view_comes_back_from_json_as_it_was() -> None:
    assert View.from_meta(orjson.loads(orjson.dumps(VIEW.to_meta()))) == VIEW
