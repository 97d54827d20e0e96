"""The ports on which a service is served."""

import socket
from collections.abc import Callable, Iterator

import pytest

from service.errors import Misconfigured
from service.settings import Settings
from service.supervision.listening import listen, reserve_grpc


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which another listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def free(taken: int) -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def bind(port: int, *, share: bool) -> None:
    with socket.socket() as other:
        if share:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", port))
        other.listen()


def test_without_a_port_grpc_is_not_served() -> None:
    with reserve_grpc(Settings()) as address:
        assert address is None


def test_the_port_is_kept_for_the_services_own_processes(free: int) -> None:
    with reserve_grpc(Settings(grpc_port=free)) as address:
        assert address == f"127.0.0.1:{free}"
        bind(free, share=True)
        with pytest.raises(OSError, match="in use"):
            bind(free, share=False)
    bind(free, share=False)


def test_nobody_reaches_a_port_that_is_only_kept(free: int) -> None:
    with reserve_grpc(Settings(grpc_port=free)), pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", free))


@pytest.mark.parametrize(("host", "written"), [("localhost", "127.0.0.1"), ("::1", "[::1]")])
def test_an_address_is_written_as_grpc_reads_it(free: int, host: str, written: str) -> None:
    with reserve_grpc(Settings(host=host, grpc_port=free)) as address:
        assert address == f"{written}:{free}"


def test_a_port_that_is_taken(taken: int) -> None:
    with (
        pytest.raises(Misconfigured, match=f"can't serve on 127.0.0.1:{taken}: .* another with --host or --grpc-port"),
        reserve_grpc(Settings(grpc_port=taken)),
    ):
        pass


def test_the_port_of_http(free: int) -> None:
    settings = Settings(port=free, grpc_port=free)
    with listen(settings), pytest.raises(Misconfigured, match="--grpc-port"), reserve_grpc(settings):
        pass


def no_package(name: str) -> None:
    raise ModuleNotFoundError(name)  # as of `google.protobuf` where there is no `google`


@pytest.mark.parametrize("found", [lambda _: None, no_package], ids=["no module", "no package that it lies in"])
def test_without_the_extra_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, free: int, found: Callable[[str], None]
) -> None:
    monkeypatch.setattr("service.supervision.listening.find_spec", found)
    with pytest.raises(Misconfigured, match=r"pip install 'servoloop\[grpc\]'"), reserve_grpc(Settings(grpc_port=free)):
        pass


def test_without_the_extra_all_else_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.supervision.listening.find_spec", no_package)
    with reserve_grpc(Settings()) as address:
        assert address is None
