"""What each process that the supervisor starts does first; `process_tree.Child` is the other end of it."""

import argparse

from service.process.logs import configure_logging
from service.settings import Settings
from service.telemetry.instruments import use_slot


def child_parser() -> argparse.ArgumentParser:
    """Reads what every one of them is told; each adds its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen-fd", type=int, required=True, help="the number of the socket that it inherits")
    parser.add_argument("--slot", required=True, help="its name in logs and metrics")
    return parser


def start_child(parser: argparse.ArgumentParser) -> tuple[argparse.Namespace, Settings]:
    """The arguments, and the environment's settings; from now on logs and metrics are those of the slot."""
    arguments = parser.parse_args()
    settings = Settings()
    configure_logging(settings.log_level, settings.log_format, slot=arguments.slot)
    use_slot(arguments.slot)
    return arguments, settings
