"""A root full of checkpoints that want to do harm."""

from pathlib import Path

from tests import checkpoints
from tests.end_to_end.service import Homes, Service, until
from tests.faults import hostile

MEGABYTE = 1 << 20


def peak_of(pid: int) -> int:
    """The most memory that a process has held, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def test_hostile_checkpoints_are_refused_with_a_reason_and_execute_nothing_while_others_serve(new_home: Homes) -> None:
    home, calm_home = new_home(), new_home()
    root = home / "data" / "models"
    checkpoints.write_vector(calm_home / "data" / "models", "good")
    with Service(calm_home, shipped_checkpoints="") as calm:
        calm.wait_ready()
        usual = {slot: peak_of(calm.child(slot)) for slot in ("http-0", "engine-0")}
    expected = hostile.write(root)
    checkpoints.write_vector(root, "good")

    with Service(home, shipped_checkpoints="") as service:
        service.wait_ready()

        def reasons() -> dict[str, str]:
            return {one["model"]: one["reason"] for one in service.client.get("/v1/models").json()["broken"]}

        until(lambda: expected.keys() <= reasons().keys(), "all are refused")
        found = reasons()
        assert found.keys() == expected.keys()
        assert {name: found[name] for name, reason in expected.items() if reason not in found[name]} == {}
        assert max(map(len, found.values())) < 3000
        for name in expected:
            assert service.post(name, [[1, 2, 3, 4]]).status_code in (404, 503), name
        assert service.predict("good", [[1, 2, 3, 4]])
        # The largest file that is read before it is refused has 65 MB.
        for slot, bytes_before in usual.items():
            assert peak_of(service.child(slot)) < bytes_before + 300 * MEGABYTE, slot
        assert service.metric("servoloop_process_restarts_total") == 0
        assert "Traceback" not in service.errors
    assert not list(home.rglob(hostile.MARK))
