"""A PostgreSQL server of the tests' own, where one is installed."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_USER = "postgres"


def programs() -> Path | None:
    """The folder of the newest server's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).parent if on_path else None


def why_not() -> str | None:
    """What keeps a server from being started here; None where nothing does."""
    if programs() is None:
        return "no PostgreSQL server is installed"
    if os.geteuid() == 0 and not (shutil.which("runuser") and _has_user()):
        return f"PostgreSQL does not run as root, and there is no user {_USER} to run it as"
    return None


@contextmanager
def server() -> Iterator[str]:
    """Run a server inside the block; its URL."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    bin_folder = programs()
    assert bin_folder is not None
    as_root = os.geteuid() == 0
    if as_root:
        shutil.chown(folder, _USER)
    user = ["runuser", "-u", _USER, "--"] if as_root else []

    def run(program: str, *arguments: str) -> None:
        command = [*user, str(bin_folder / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    run("initdb", "-D", f"{folder}/data", "-A", "trust", "-U", _USER, "--no-sync")
    # fsync off: these tests end processes, not machines.
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        run("pg_ctl", "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")
        yield f"postgresql://{_USER}@127.0.0.1:{port}/postgres"
    finally:
        run("pg_ctl", "-D", f"{folder}/data", "-m", "immediate", "-w", "stop")
        shutil.rmtree(folder, ignore_errors=True)


def _has_user() -> bool:
    try:
        pwd.getpwnam(_USER)
    except KeyError:
        return False
    return True
