import numpy as np
import pytest

from models.preprocess import Preprocessor
from models.preprocess.numeric import Normalize, Scale, Standardize
from models.preprocess.text import Tokenize
from models.training.preparation import FitNormalize, FitStandardize, FitTokenizer, fit

TEXTS = ["A good film!", "a bad film<br /><br />really", "Good, good, don't miss", "bad"] * 3


def test_declared_steps_stay_as_they_are() -> None:
    steps, files = fit([Scale(factor=0.5)], np.zeros((2, 1, 3, 3)))
    assert steps == [Scale(factor=0.5)]
    assert files == {}


def test_channels_are_normalised_after_the_steps_before() -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 4, 4)).astype(np.uint8)
    steps, _ = fit([Scale(factor=1 / 255), FitNormalize()], images)
    assert isinstance(steps[1], Normalize)
    np.testing.assert_allclose(steps[1].mean, (images / 255).mean(axis=(0, 2, 3)), rtol=1e-5)
    prepared = Preprocessor(steps, {}.__getitem__)(images).values
    np.testing.assert_allclose(prepared.mean(axis=(0, 2, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(prepared.std(axis=(0, 2, 3)), 1, atol=1e-5)


def test_a_constant_column_is_only_centred() -> None:
    steps, _ = fit([FitStandardize()], np.array([[1.0, 7.0], [3.0, 7.0]]))
    assert steps == [Standardize(mean=[2.0, 7.0], std=[1.0, 1.0])]


@pytest.mark.parametrize("kind", ["words", "wordpiece"])
def test_a_tokenizer_is_learned_and_stored(kind: str) -> None:
    plan = FitTokenizer.model_validate({"kind": kind, "vocabulary": 60, "max_length": 5, "keep": "tail"})
    steps, files = fit([plan], TEXTS)
    assert steps == [Tokenize(file="tokenizer.json", max_length=5, keep="tail")]
    tokens = Preprocessor(steps, files.__getitem__)(["GOOD film", "good<br />film", "!"])
    first, second, third = tokens.rows()
    assert first.tolist() == second.tolist()
    assert len(first) == 2
    assert len(third) == 1
    assert min(first) >= 2  # 0 is padding, 1 unknown


def test_the_same_texts_give_the_same_file() -> None:
    plan = FitTokenizer(vocabulary=40, max_length=5)
    assert fit([plan], TEXTS)[1] == fit([plan], TEXTS)[1]


def test_words_keep_contractions_and_drop_rare_ones() -> None:
    tokenizer = FitTokenizer(vocabulary=40, max_length=5, min_frequency=3).train([*TEXTS, "once"])
    assert tokenizer.encode("Don't, once").tokens == ["don't", "[UNK]"]
    assert tokenizer.token_to_id("[PAD]") == 0
    assert tokenizer.token_to_id("[UNK]") == 1
