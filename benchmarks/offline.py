"""Batched forwards without a server, in a process of their own.

`python -m benchmarks.offline ROOT NETWORK VARIANT THREADS SECONDS` runs in the environment with OpenVINO
too, so it needs little more than torch. It prints READY, waits for a line, and prints JSON: rows a second,
microseconds of CPU a row, and the labels that it and eager float32 gave to the benchmark's row.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.networks import MAX_BATCH, SUBJECTS
from benchmarks.peers.network import load
from models.architectures import Network

Forward = Callable[[], Any]


def _eager(network: Network, x: torch.Tensor, _: int) -> Forward:
    return lambda: network(x)


def _channels_last(network: Network, x: torch.Tensor, _: int) -> Forward:
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    # As a server would: rows arrive channel by channel, and converting them is part of the batch.
    return lambda: network(x.to(memory_format=torch.channels_last))


def _bf16(network: Network, x: torch.Tensor, _: int) -> Forward:
    network.bfloat16()
    if not x.is_floating_point():
        return lambda: network(x)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return lambda: network(x.bfloat16().to(memory_format=torch.channels_last))


def _compiled(network: Network, x: torch.Tensor, threads: int) -> Forward:
    return _autocast(torch.compile(network, dynamic=False), x)


def _autocast(network: Callable[..., Any], x: torch.Tensor) -> Forward:
    def forward() -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return network(x)

    return forward


def _openvino(precision: str) -> Callable[[Network, torch.Tensor, int], Forward]:
    def build(network: Network, x: torch.Tensor, threads: int) -> Forward:
        import openvino

        converted = openvino.convert_model(network, example_input=x, input=[list(x.shape)])
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = openvino.compile_model(converted, "CPU", options).create_infer_request()
        tensor = openvino.Tensor(x.numpy(), shared_memory=True)
        return lambda: request.infer([tensor], share_inputs=True, share_outputs=True)[0]

    return build


VARIANTS: dict[str, Callable[[Network, torch.Tensor, int], Forward]] = {
    "eager fp32": _eager,
    "channels_last fp32": _channels_last,
    "bf16 weights": _bf16,
    "compile bf16": _compiled,
    "openvino fp32": _openvino("f32"),
    "openvino bf16": _openvino("bf16"),
}


def variants(name: str, *, openvino: bool, quick: bool) -> list[str]:
    """Those that make sense for a network, and that can run; `quick` leaves out those that were never the fastest."""
    images = SUBJECTS[name].family == "cnn"
    # Compiling an LSTM unrolls its steps: minutes, for less than OpenVINO gives.
    skipped = {"compile bf16"} if SUBJECTS[name].family == "recurrent" else set()
    skipped |= {"compile bf16", "openvino fp32"} if quick else set()
    skipped |= set() if images else {"channels_last fp32"}
    return [each for each in VARIANTS if each not in skipped and (openvino or not each.startswith("openvino"))]


def measure(root: Path, name: str, variant: str, threads: int, seconds: float) -> dict[str, Any]:
    """Rows a second of full batches."""
    torch.set_num_threads(threads)
    network = load(root / name / "1")
    row = SUBJECTS[name].row()
    x = torch.from_numpy(np.repeat(row[None], MAX_BATCH, axis=0))
    with torch.inference_mode():
        expected = int(network(x[:1])[0].argmax())
        forward = VARIANTS[variant](network, x, threads)
        for _ in range(3):
            answer = forward()
        # Whoever runs several of these at once starts them together.
        print("READY", flush=True)
        sys.stdin.readline()
        began, cpu, batches = time.perf_counter(), time.process_time(), 0
        while (took := time.perf_counter() - began) < seconds:
            forward()
            batches += 1
        cpu = time.process_time() - cpu
    rows = batches * MAX_BATCH
    label = int(np.asarray(answer.float() if isinstance(answer, torch.Tensor) else answer)[0].argmax())
    return {"rows_per_second": rows / took, "cpu_us": 1e6 * cpu / rows, "label": label, "expected": expected}


def main() -> None:
    """Measure once."""
    root, name, variant, threads, seconds = sys.argv[1:]
    print(json.dumps(measure(Path(root), name, variant, int(threads), float(seconds))))


if __name__ == "__main__":
    main()
