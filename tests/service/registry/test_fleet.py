import orjson

from service.domain import Execution, Precision, Ref
from service.registry.fleet import EngineInfo, Standing, VersionState, View

FAST = Execution("openvino", Precision.BFLOAT16, 2, "measured 2026-11-22: 5,000 rows/s")
VIEW = View(
    3,
    (EngineInfo("engine-0", "/run/e0.sock", "cuda:0"), EngineInfo("engine-1", "/run/e1.sock")),
    {
        Ref("fashion", 1): Standing(
            VersionState.LOADED, "ab" * 32, None, ("engine-0",), 4096, generation=2, execution=FAST
        ),
        Ref("fashion", 2): Standing(VersionState.FAILED, "cd" * 32, "its weights hold NaN"),
    },
)


def test_a_view_comes_back_from_json_as_it_was() -> None:
    assert View.from_meta(orjson.loads(orjson.dumps(VIEW.to_meta()))) == VIEW
