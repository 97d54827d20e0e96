"""MLServer as its documentation has it: settings.json, model-settings.json with adaptive batching, `mlserver start`."""

import json
import os
import sys
from pathlib import Path

from benchmarks.peers.network import MAX_BATCH, free_port, max_wait_seconds, option, port, workers


def main() -> None:
    """Write its settings, and become MLServer."""
    home = Path(option("HOME"))
    settings = {
        "host": "127.0.0.1",
        "http_port": port(),
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": workers(),
        "use_structured_logging": False,
        "logging_settings": {"version": 1, "disable_existing_loggers": True},
    }
    model = {
        "name": "network",
        "implementation": "benchmarks.peers.mlserver_runtime.Network",
        "max_batch_size": MAX_BATCH,
        "max_batch_time": max_wait_seconds(),
    }
    folder = home / "model"
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "model-settings.json").write_text(json.dumps(model))
    os.chdir(home)
    command = str(Path(sys.executable).parent / "mlserver")
    os.execv(command, [command, "start", str(folder)])


if __name__ == "__main__":
    main()
