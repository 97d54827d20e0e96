"""python -m models.training RECIPE --out DIR: train by a recipe and write its checkpoint."""

import sys

from rich.console import Console

# Importing torch takes seconds. Nothing is drawn where stderr is no terminal.
with Console(stderr=True).status("Importing PyTorch"):
    from models.training.command import main

if __name__ == "__main__":
    sys.exit(main())
