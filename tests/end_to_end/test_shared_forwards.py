"""Identical requests where their forwards are shared, and answers kept."""

from tests import checkpoints
from tests.end_to_end.service import Homes, Service, until

FEW, MANY = [[1, 2, 3]], [[[1, 2, 3]], [[3, 2, 1]]]


def test_an_input_that_comes_again_is_answered_without_a_forward_until_its_version_is_loaded_anew(
    new_home: Homes,
) -> None:
    home = new_home()
    checkpoints.write_one_of_each(home / "data" / "models")
    with Service(home, shipped_checkpoints="", single_flight="on", result_cache_rows=10) as service:
        service.wait_ready()

        def kept() -> float:
            return service.metric("servoloop_shared_forwards_total", model="motion", how="kept")

        first = service.post("motion", MANY).json()
        again = service.post("motion", MANY).json()
        assert again["predictions"] == first["predictions"]
        assert not set(again["prediction_ids"]) & set(first["prediction_ids"])
        assert kept() == 1
        assert service.predict("motion", [FEW])
        assert kept() == 1
        assert service.client.post("/v1/models/motion/versions/1/reload").status_code < 300

        def is_computed_anew() -> bool:
            before = kept()
            return service.predict("motion", MANY) == first["predictions"] and kept() == before

        until(is_computed_anew, "the reload made the answers be forgotten")
