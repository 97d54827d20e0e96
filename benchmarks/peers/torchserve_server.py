"""TorchServe as its documentation has it: a model archive with a handler, batching in config.properties."""

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.network import MAX_BATCH, free_port, max_wait_seconds, option, port, workers

HANDLER = Path(__file__).with_name("torchserve_handler.py")


def main() -> None:
    """Pack the archive, and become TorchServe."""
    home = Path(option("HOME"))
    store, tools = home / "store", Path(sys.executable).parent
    store.mkdir()
    archive = ["--model-name", "network", "--version", "1.0", "--handler", str(HANDLER), "--export-path", str(store)]
    subprocess.run([str(tools / "torch-model-archiver"), *archive], check=True)
    model = {
        "defaultVersion": True,
        "marName": "network.mar",
        "minWorkers": workers(),
        "maxWorkers": workers(),
        "batchSize": MAX_BATCH,
        "maxBatchDelay": max(1, round(1000 * max_wait_seconds())),
        "responseTimeout": 60,
    }
    lines = {
        "inference_address": f"http://127.0.0.1:{port()}",
        "management_address": f"http://127.0.0.1:{free_port()}",
        "metrics_address": f"http://127.0.0.1:{free_port()}",
        "grpc_inference_port": free_port(),
        "grpc_management_port": free_port(),
        "disable_token_authorization": "true",
        "job_queue_size": 1000,
        "load_models": "network.mar",
        "models": json.dumps({"network": {"1.0": model}}),
    }
    config = home / "config.properties"
    config.write_text("".join(f"{name}={value}\n" for name, value in lines.items()))
    # Its access log goes to files; a user who wants speed turns the flood off.
    os.chdir(home)
    options = ["--start", "--foreground", "--ncs", "--model-store", str(store), "--ts-config", str(config)]
    os.execv(tools / "torchserve", ["torchserve", *options])


if __name__ == "__main__":
    main()
