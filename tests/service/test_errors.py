import pytest

from service import errors
from service.domain import Ref
from service.errors import ServoloopError

REF = Ref("fashion", 2)


def every_error() -> list[type[ServoloopError]]:
    found, new = [], [ServoloopError]
    while new:
        found += new
        new = [child for parent in new for child in parent.__subclasses__()]
    return found


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.QueueFull, "queue_full"),
        (errors.DeadlineExceeded, "deadline_exceeded"),
        (errors.UnknownModel, "unknown_model"),
        (errors.UnsupportedMediaType, "unsupported_media_type"),
        (errors.BodyTooLarge, "body_too_large"),
    ],
)
def test_an_errors_kind_is_its_name_as_clients_read_it(error: type[ServoloopError], kind: str) -> None:
    assert error.kind == kind


def test_no_two_errors_share_a_kind() -> None:
    kinds = [error.kind for error in every_error()]
    assert len(kinds) == len(set(kinds))


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    for error in every_error():
        assert error.__name__ in errors.__doc__


def test_invalid_input_says_where_what_and_what_was_expected() -> None:
    error = errors.UnprocessableInput("this is a string", field="instances[0]", expected="a number")
    assert str(error) == "instances[0]: this is a string; expected a number"
    assert str(errors.MalformedBody("broken")) == "broken"


def test_errors_carry_their_facts() -> None:
    full = errors.QueueFull(REF, queued=5, limit=4)
    assert (full.ref, full.queued, full.limit, full.retry_after) == (REF, 5, 4, 1)
    assert str(full) == "fashion/2 has 5 rows waiting, the limit is 4"
    unknown = errors.UnknownVersion("fashion", "9", ["1", "2"])
    assert str(unknown) == "there is no version of fashion named '9'; there is: 1, 2"
    assert str(errors.UnknownModel("x", [])) == "there is no model named 'x'; there is: none"
    in_use = errors.VersionInUse(REF, ["champion", "trial"])
    assert (in_use.ref, in_use.aliases) == (REF, ["champion", "trial"])
    assert "the aliases champion, trial of fashion" in str(in_use)
    assert str(errors.BodyTooLarge(10)) == "body: the body is too large; expected at most 10 bytes"


def test_a_long_list_of_names_is_cut() -> None:
    assert len(str(errors.UnknownModel("x", [f"model-{i}" for i in range(10_000)]))) < 500
