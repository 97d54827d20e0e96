"""`servoloop serve`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.output import console, failure, load_settings, waiting

if TYPE_CHECKING:
    from service.registry.catalog import Catalog


def serve(
    host: Annotated[str | None, typer.Option(help="Address to serve on.", show_default="127.0.0.1")] = None,
    port: Annotated[int | None, typer.Option(help="Port to serve on; 0 picks a free one.", show_default="8000")] = None,
    grpc_port: Annotated[
        int | None,
        typer.Option(help="Port to serve the Open Inference Protocol over gRPC on; 0: none.", show_default="0"),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where registered models and all other state lie.", file_okay=False)
    ] = None,
    allow_remote: Annotated[
        bool | None, typer.Option("--allow-remote", help="Serve on an address that others can reach.")
    ] = None,
    http_processes: Annotated[
        int | None,
        typer.Option(
            help="Processes that share the port and the engines; 0: one for each four cores, four at most.",
            show_default="0",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="auto, cpu, cuda or cuda:N: what computes.", show_default="auto")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.", show_default="info")] = None,
    access_log: Annotated[bool | None, typer.Option("--access-log", help="Log each answered request.")] = None,
) -> None:
    """Start the service.

    Options go before the variables SERVOLOOP_HOST, SERVOLOOP_PORT and so on.
    """
    import asyncio

    from service.cli import quickstart
    from service.errors import Forced, Misconfigured
    from service.process.logs import configure_logging
    from service.supervisor import Supervisor

    settings = load_settings(
        host=host,
        port=port,
        grpc_port=grpc_port,
        data_dir=data_dir,
        allow_remote=allow_remote,
        http_processes=http_processes,
        device=device,
        log_level=log_level,
        access_log=access_log,
    )
    configure_logging(settings.log_level, settings.log_format, slot="supervisor")
    with waiting("Starting: loading and warming up the models") as status:

        def announce(url: str, catalog: "Catalog") -> None:
            status.stop()
            quickstart.show(console(), url, catalog)

        try:
            asyncio.run(Supervisor(settings).run(on_ready=announce))
        except (Misconfigured, Forced) as error:
            raise failure(error) from None
