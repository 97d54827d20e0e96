import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from models.preprocess import Preprocessor, RawRows, Step, Tensors, decode_image
from models.preprocess.tensors import Array
from tests.models.preprocess.test_text import WORDS, tokenizer_file

FILES = {"words.json": orjson.dumps(WORDS), "tokenizer.json": tokenizer_file(template=True)}
STEP: TypeAdapter[Step] = TypeAdapter(Step)
VOCABULARY = {"step": "vocabulary", "file": "words.json", "max_length": 8}


def preprocessor(*steps: dict[str, Any]) -> Preprocessor:
    parsed: list[Step] = TypeAdapter(list[Step]).validate_python(list(steps))
    return Preprocessor(parsed, FILES.__getitem__)


def assert_rows_prepare_alike_alone_and_together(prepare: Preprocessor, rows: RawRows) -> None:
    together = prepare(rows)
    alone = [prepare(rows[index : index + 1]) for index in range(len(rows))]
    assert together.values.dtype == alone[0].values.dtype
    assert len(together) == len(rows)
    for whole, single in zip(together.rows(), alone, strict=True):
        (row,) = single.rows()
        assert whole.shape == row.shape
        assert whole.tobytes() == row.tobytes()


# Declarations


@pytest.mark.parametrize(
    ("step", "bounds"),
    [
        ({"step": "pad", "length": 5}, {"length": (1, 1_000_000)}),
        ({"step": "truncate", "max_length": 5}, {"max_length": (1, None)}),
        ({"step": "resize", "height": 5, "width": 5}, {"height": (1, 4096), "width": (1, 4096)}),
        ({"step": "center_crop", "height": 5, "width": 5}, {"height": (1, None), "width": (1, None)}),
        (
            {"step": "vocabulary", "file": "f", "max_length": 5},
            {"max_length": (1, 1_000_000), "empty": (0, None), "unknown": (0, None)},
        ),
        ({"step": "tokenize", "file": "f", "max_length": 5}, {"max_length": (1, 1_000_000), "empty": (0, None)}),
    ],
    ids=lambda value: value.get("step"),
)
def test_a_steps_whole_numbers_have_bounds(step: dict[str, Any], bounds: dict[str, tuple[int, int | None]]) -> None:
    for name, (least, most) in bounds.items():
        for inside in [least] if most is None else [least, most]:
            STEP.validate_python({**step, name: inside})
        for outside in [least - 1] if most is None else [least - 1, most + 1]:
            with pytest.raises(ValidationError, match=rf"\.{name}\n"):
                STEP.validate_python({**step, name: outside})


@pytest.mark.parametrize(
    ("step", "name"),
    [
        ({"step": "scale", "factor": 1}, "factor"),
        ({"step": "scale", "factor": 1}, "offset"),
        ({"step": "pad", "length": 5}, "value"),
    ],
)
@pytest.mark.parametrize("number", [float("inf"), float("nan")])
def test_a_steps_numbers_are_finite(step: dict[str, Any], name: str, number: float) -> None:
    with pytest.raises(ValidationError, match="finite"):
        STEP.validate_python({**step, name: number})


def test_a_step_has_no_other_fields_and_does_not_change() -> None:
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        STEP.validate_python({"step": "grayscale", "weights": [1, 1, 1]})
    with pytest.raises(ValidationError, match="frozen"):
        STEP.validate_python({"step": "grayscale"}).step = "grayscale"


# Dtypes


@pytest.mark.parametrize("dtype", [np.uint8, np.float64, np.float32, np.int32, np.float16])
def test_all_but_whole_numbers_of_64_bits_becomes_float32(dtype: Any) -> None:
    out = preprocessor()(np.ones((2, 3), dtype))
    assert out.values.dtype == np.float32
    assert out.values.tolist() == [[1, 1, 1]] * 2


def test_ids_stay_whole() -> None:
    assert preprocessor()([np.array([1, 2]), np.array([3])]).values.dtype == np.int64


def test_sequences_keep_their_lengths_through_the_last_cast() -> None:
    out = preprocessor()([np.ones((2, 3)), np.ones((1, 3))])
    assert out.lengths is not None
    assert out.lengths.tolist() == [2, 1]
    assert out.values.dtype == np.float32


# Order


def test_steps_run_in_the_order_declared() -> None:
    double, add = {"step": "scale", "factor": 2}, {"step": "scale", "factor": 1, "offset": 3}
    assert preprocessor(double, add)(np.array([[1.0]])).values.item() == 5
    assert preprocessor(add, double)(np.array([[1.0]])).values.item() == 8


def test_a_text_step_comes_first() -> None:
    with pytest.raises(ValueError, match="the step 'vocabulary' takes text, so it must come first, not at 1"):
        preprocessor({"step": "scale", "factor": 1}, VOCABULARY)


def test_texts_need_a_step_that_takes_them() -> None:
    with pytest.raises(ValueError, match=r"^texts need a step tokenize or vocabulary$"):
        preprocessor({"step": "scale", "factor": 1})(["good"])


def test_a_step_whose_file_is_wrong_is_refused_at_once() -> None:
    steps = TypeAdapter(list[Step]).validate_python([VOCABULARY])
    with pytest.raises(ValueError, match="is no vocabulary"):
        Preprocessor(steps, lambda _: b"[]")


def test_steps_may_follow_a_text_step() -> None:
    out = preprocessor(VOCABULARY, {"step": "pad", "length": 4})(["good film", "bad"])
    assert out.values.tolist() == [[4, 6, 0, 0], [5, 0, 0, 0]]


# Promise 8's other half: what a batch is does not matter. Training prepares thousands of rows at once, serving one.

PICTURE_STEPS: list[list[dict[str, Any]]] = [
    [{"step": "scale", "factor": 1 / 255}, {"step": "normalize", "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.1]}],
    [{"step": "grayscale"}, {"step": "scale", "factor": 1 / 255}, {"step": "normalize", "mean": [0.3], "std": [0.2]}],
    [{"step": "resize", "height": 5, "width": 4}, {"step": "center_crop", "height": 3, "width": 4}],
    [{"step": "center_crop", "height": 3, "width": 3}, {"step": "resize", "height": 9, "width": 9}],
]


@pytest.mark.parametrize("steps", PICTURE_STEPS)
@given(rows=arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.just(3), st.just(7), st.just(6))))
def test_pictures_prepare_alike_alone_and_together(steps: list[dict[str, Any]], rows: Array) -> None:
    assert_rows_prepare_alike_alone_and_together(preprocessor(*steps), rows)


finite = st.floats(-1e30, 1e30, allow_nan=False)


@given(rows=arrays.arrays(np.float64, st.tuples(st.integers(1, 6), st.just(2)), elements=finite))
def test_columns_prepare_alike_alone_and_together(rows: Array) -> None:
    prepare = preprocessor({"step": "standardize", "mean": [0.1, 7e3], "std": [0.3, 2e3]})
    assert_rows_prepare_alike_alone_and_together(prepare, rows)


SEQUENCE_STEPS: list[list[dict[str, Any]]] = [
    [],
    [{"step": "truncate", "max_length": 3, "keep": "tail"}],
    [{"step": "standardize", "mean": [0.1, 2], "std": [0.3, 5]}, {"step": "truncate", "max_length": 4}],
    [{"step": "truncate", "max_length": 4}, {"step": "pad", "length": 6, "value": 1}],
]


@pytest.mark.parametrize("steps", SEQUENCE_STEPS)
@given(
    rows=st.lists(
        arrays.arrays(np.float32, st.tuples(st.integers(1, 9), st.just(2)), elements=st.floats(-9, 9, width=32)),
        min_size=1,
        max_size=5,
    )
)
def test_sequences_prepare_alike_alone_and_together(steps: list[dict[str, Any]], rows: list[Array]) -> None:
    assert_rows_prepare_alike_alone_and_together(preprocessor(*steps), rows)


TEXT_STEPS: list[list[dict[str, Any]]] = [
    [VOCABULARY],
    [{**VOCABULARY, "split": "characters", "keep": "tail"}],
    [{"step": "tokenize", "file": "tokenizer.json", "max_length": 6}],
    [{"step": "tokenize", "file": "tokenizer.json", "max_length": 9}, {"step": "pad", "length": 9}],
]
texts = st.one_of(st.text(min_size=1), st.lists(st.sampled_from(["good", "Bad", "film", "!", "x"])).map(" ".join))


@pytest.mark.parametrize("steps", TEXT_STEPS)
@given(rows=st.lists(texts, min_size=1, max_size=5))
def test_texts_prepare_alike_alone_and_together(steps: list[dict[str, Any]], rows: Sequence[str]) -> None:
    assert_rows_prepare_alike_alone_and_together(preprocessor(*steps), list(rows))


@given(rows=arrays.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(3), st.just(7), st.just(6))))
def test_pixels_prepare_alike_as_bytes_and_as_numbers(rows: Array) -> None:
    """A PNG gives bytes, a JSON list gives floats, a batch of both is floats: the answer is the same."""
    for steps in PICTURE_STEPS:
        prepare = preprocessor(*steps)
        assert prepare(rows).values.tobytes() == prepare(rows.astype(np.float32)).values.tobytes()


def test_a_decoded_picture_is_prepared_like_its_pixels() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 6, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    decoded = decode_image(stream.getvalue(), channels=3, height=7, width=6)
    prepare = preprocessor(*PICTURE_STEPS[0])
    expected: Tensors = prepare(pixels.transpose(2, 0, 1)[None])
    assert prepare(decoded[None]).values.tobytes() == expected.values.tobytes()
