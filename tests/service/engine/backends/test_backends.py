"""Every back end over every family: the same answers as PyTorch, and promise 1."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import pytest
import torch

from models.architectures import build
from models.preprocess import Tensors
from models.preprocess.tensors import Array
from service.domain import Precision
from service.engine.backends.base import Backend, NotBuilt, Place
from service.engine.backends.eager import Eager
from service.engine.backends.openvino import OpenVino
from service.engine.backends.registry import BACKENDS
from service.engine.devices import open_device
from service.engine.plans import Plan
from service.engine.replica import Replica
from tests.service.engine.networks import MAX_STEPS, NETWORKS, TOKENS, VECTORS, manifest_of, rows_for
from tests.service.engine.test_precision import TOLERANCE_BF16, TOLERANCE_FP32, assert_the_same

CPU = torch.device("cpu")
LENGTHS = (5, 1, 33, MAX_STEPS, 2, 17, 17)
MARKS = {
    "openvino": [pytest.mark.openvino],
    "openvino-int8": [pytest.mark.openvino],
    "onnxruntime": [pytest.mark.onnxruntime],
    "compile": [pytest.mark.compiler],
    "cuda-graphs": [pytest.mark.gpu],
    "cuda-graphs-compile": [pytest.mark.gpu],
}
# Compiling takes seconds, and half a minute on a busy machine.
COMPILED = {Precision.FLOAT32: ("mlp", "transformer pre-norm, mean"), Precision.BFLOAT16: ("mlp", "cnn")}


def title(backend: Backend) -> str:
    return f"{backend.name} {backend.precision}"


def names_for(backend: Backend) -> Sequence[str]:
    match backend.name:
        case "compile" | "cuda-graphs-compile":
            return COMPILED[backend.precision]
        case "cuda-graphs":
            return [name for name in NETWORKS if "both" not in name]
        case "openvino-int8":
            # Of a width of 8 and with such weights, those with post-norm are too far away: PyTorch would run them.
            return ["cnn", "mlp", "linear", *(name for name in NETWORKS if name.startswith("transformer pre-norm"))]
        case _:
            return list(NETWORKS)


CASES = [
    pytest.param(backend, name, id=f"{title(backend)}, {name}", marks=MARKS.get(backend.name, []))
    for backend in BACKENDS
    for name in names_for(backend)
]


def rows_of(name: str, lengths: Sequence[int] = LENGTHS, seed: int = 0) -> tuple[list[Array], bool]:
    contract = NETWORKS[name][0]
    return rows_for(contract, lengths, seed), contract in (TOKENS, VECTORS)


def samples_of(name: str) -> list[Tensors]:
    samples = []
    for count in (1, 2):
        rows, ragged = rows_of(name, [6] * count)
        samples.append(Tensors.packed(rows) if ragged else Tensors(np.stack(rows)))
    return samples


def made(backend: Backend, name: str, threads: int = 1, place: Place | None = None) -> Replica:
    contract, architecture = NETWORKS[name]
    torch.manual_seed(0)
    network = build(architecture["family"], architecture["config"])
    for parameter in network.parameters():  # larger than fresh ones, so that a leak would show
        parameter.data.mul_(2.0)
    if place is None:
        place = Place(CPU, threads) if backend.why_not(CPU) is None else Place(open_device("cuda", threads), threads)
    plan = Plan(backend, place, "it was asked for")

    def typical() -> Sequence[Array]:
        return rows_of(name, LENGTHS * 9, seed=1)[0]

    replica = Replica(
        manifest_of(contract, architecture), network, CPU, Precision.FLOAT32, samples_of(name), plan, typical
    )
    replica.warm_up()
    return replica


@cache
def reference(name: str) -> Array:
    rows, ragged = rows_of(name)
    return made(Eager(), name).run(rows, ragged=ragged)[0]


@pytest.mark.parametrize(("backend", "name"), CASES)
def test_a_back_end_answers_as_pytorch_does_and_each_row_alone_as_in_any_batch(backend: Backend, name: str) -> None:
    replica = made(backend, name)
    assert replica.execution.backend == backend.name, replica.execution.reason
    rows, ragged = rows_of(name)
    together, _ = replica.run(rows, ragged=ragged)
    tolerance = TOLERANCE_FP32 if backend.precision is Precision.FLOAT32 else TOLERANCE_BF16
    assert_the_same(together, reference(name), tolerance if tolerance == TOLERANCE_FP32 else 5e-2)
    alone = np.concatenate([replica.run([row], ragged=ragged)[0] for row in rows])
    assert_the_same(together, alone, tolerance)
    others, _ = replica.run(rows[4:1:-1], ragged=ragged)  # another order, other neighbours, another longest row
    assert_the_same(others, alone[4:1:-1], tolerance)


@pytest.mark.parametrize("backend", [each for each in BACKENDS if not MARKS.get(each.name)], ids=title)
def test_a_batch_runs_with_the_threads_of_its_plan(backend: Backend) -> None:
    rows, _ = rows_of("mlp")
    before = torch.get_num_threads()
    made(backend, "mlp", threads=2).run(rows, ragged=False)
    assert torch.get_num_threads() == 2
    made(backend, "mlp", threads=0).run(rows, ragged=False)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


@pytest.mark.gpu
@pytest.mark.parametrize("backend", [each for each in BACKENDS if each.name.startswith("eager")], ids=title)
@pytest.mark.parametrize("name", ["cnn", "gru over features both ways", "transformer pre-norm, mean"])
def test_pytorch_itself_answers_alike_on_a_gpu(backend: Backend, name: str) -> None:
    replica = made(backend, name, place=Place(open_device("cuda", 1), 1, at_once=2))
    assert replica.execution.backend == backend.name, replica.execution.reason
    rows, ragged = rows_of(name)
    tolerance = TOLERANCE_FP32 if backend.precision is Precision.FLOAT32 else 5e-2
    assert_the_same(replica.run(rows, ragged=ragged)[0], reference(name), tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["cnn", "lstm over features", "transformer pre-norm, mean"])
def test_on_a_gpu_batches_side_by_side_get_their_own_answers_while_others_are_recorded(name: str) -> None:
    backend = next(each for each in BACKENDS if each.name == "cuda-graphs")
    replica = made(backend, name, place=Place(open_device("cuda", 1), 1, at_once=2))
    batches = [rows_of(name, [step + 1, 40 - step, step % 7 + 1], seed=step)[0] for step in range(30)]
    ragged = rows_of(name)[1]
    plain = made(Eager(), name)
    expected = [plain.run(rows, ragged=ragged)[0] for rows in batches]
    with ThreadPoolExecutor(4) as threads:
        found = [threads.submit(replica.run, rows, ragged=ragged) for rows in batches * 10]
    for number, answer in enumerate(found):
        assert_the_same(answer.result()[0], expected[number % len(batches)], TOLERANCE_FP32)


@pytest.mark.parametrize("name", ["cnn", "mlp", "lstm over features"])
def test_batches_side_by_side_and_rows_by_themselves_get_the_same_answers(name: str) -> None:
    pytest.importorskip("openvino")
    rows, ragged = rows_of(name)
    plain = made(OpenVino(), name)
    expected = plain.run(rows, ragged=ragged)[0]
    busy = made(OpenVino(), name, place=Place(CPU, 1, at_once=2, alone=2))
    assert busy.num_bytes == 2 * plain.num_bytes
    with ThreadPoolExecutor(4) as threads:
        batches = [threads.submit(busy.run, rows, ragged=ragged) for _ in range(20)]
        alone = [(index, threads.submit(busy.run, [rows[index]], ragged=ragged)) for index in range(len(rows))]
    for batch in batches:
        np.testing.assert_allclose(batch.result()[0], expected, atol=1e-5)
    for index, row in [*alone, *((index, None) for index in range(len(rows)))]:
        found = busy.run([rows[index]], ragged=ragged) if row is None else row.result()
        np.testing.assert_allclose(found[0][0], expected[index], atol=1e-5)


@pytest.mark.compiler
def test_recurrent_networks_are_not_compiled() -> None:
    name = "lstm forward, last, 1 layers"
    backend = next(each for each in BACKENDS if each.name == "compile")
    with pytest.raises(NotBuilt, match="leaves LSTM and GRU as they are"):
        backend.build(build(*NETWORKS[name][1].values()), manifest_of(*NETWORKS[name]), samples_of(name), Place(CPU, 1))


@pytest.mark.openvino
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("cnn", "int8 needs rows to measure ranges on, and the version ships none: no evaluation.npz"),
        ("gru over features both ways", "int8 leaves LSTM and GRU as they are"),
    ],
)
def test_int8_is_for_networks_whose_ranges_can_be_measured(name: str, reason: str) -> None:
    backend = next(each for each in BACKENDS if each.name == "openvino-int8")
    with pytest.raises(NotBuilt, match=f"^{reason}$"):
        backend.build(build(*NETWORKS[name][1].values()), manifest_of(*NETWORKS[name]), samples_of(name), Place(CPU, 1))


@pytest.mark.openvino
def test_openvino_pads_to_few_sizes_and_counts_them_as_padding() -> None:
    replica = made(next(each for each in BACKENDS if each.name == "openvino"), "transformer pre-norm, mean")
    rows, _ = rows_of("transformer pre-norm, mean", [9, 3, 5, 1, 1])
    _, fill = replica.run(rows, ragged=True)
    assert (fill.elements, fill.padding) == (6 * 16, 6 * 16 - 19)


@pytest.mark.openvino
def test_what_openvino_computes_with_bfloat16_is_not_float32_under_another_name() -> None:
    backend = next(each for each in BACKENDS if (each.name, each.precision) == ("openvino", Precision.BFLOAT16))
    rows, _ = rows_of("cnn")
    assert not np.allclose(made(backend, "cnn").run(rows, ragged=False)[0], reference("cnn"), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("name", "share"), [("eager", 1.0), ("eager-cast", 0.5)])
def test_of_pytorch_in_bfloat16_the_cast_one_alone_keeps_its_weights_so(name: str, share: float) -> None:
    backend = next(each for each in BACKENDS if (each.name, each.precision) == (name, Precision.BFLOAT16))
    place = Place(CPU, 1)
    contract, architecture = NETWORKS["mlp"]
    network, manifest = build(architecture["family"], architecture["config"]), manifest_of(contract, architecture)
    whole = Eager().build(network, manifest, samples_of("mlp"), place).num_bytes
    assert backend.build(network, manifest, samples_of("mlp"), place).num_bytes == share * whole


@pytest.mark.parametrize("backend", BACKENDS, ids=title)
def test_what_is_made_for_cpus_says_so_on_a_gpu(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.backends.cuda_graphs.find_spec", lambda name: name)  # Triton is there
    why = backend.why_not(torch.device("cuda", 0))
    assert (why is None) == backend.name.startswith(("eager", "cuda-graphs")), why


def test_float16_is_for_gpus() -> None:
    why = Eager(Precision.FLOAT16).why_not(CPU)
    assert why == "float16 needs a GPU, and this engine's device is cpu; choose bfloat16"


def test_what_is_not_installed_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.backends.openvino.find_spec", lambda _: None)
    reasons = {each.why_not(CPU) for each in BACKENDS if each.name == "openvino"}
    assert reasons == {"OpenVINO is not installed: pip install 'servoloop[openvino]'"}
    monkeypatch.setattr("service.engine.backends.onnxruntime.find_spec", lambda name: None if name == "onnx" else name)
    reasons = {each.why_not(CPU) for each in BACKENDS if each.name == "onnxruntime"}
    assert reasons == {"ONNX Runtime is not installed: pip install 'servoloop[onnx]'"}
    monkeypatch.setattr("service.engine.backends.inductor.shutil.which", lambda _: None)
    monkeypatch.delenv("CXX", raising=False)
    reasons = {each.why_not(CPU) for each in BACKENDS if each.name == "compile"}
    assert reasons == {"torch.compile needs a C++ compiler (g++ or clang++)"}
