"""The command `servoloop`."""

from service.cli.app import main

__all__ = ["main"]
