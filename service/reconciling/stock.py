"""What lies in the model roots, as far as the store has been told of it."""

import asyncio
import logging
from typing import Protocol

from service.errors import StoreUnavailable
from service.process.aside import in_daemon_thread
from service.registry.catalog import Catalog
from service.registry.scanner import Scanner
from service.store.base import Aliases, Contracts, Found

log = logging.getLogger(__name__)

_RETRY_SECONDS = 0.1


class Crowning(Protocol):
    """How the store is told of what was found. Raises StoreUnavailable."""

    async def crown_new_models(self, found: Found, contracts: Contracts) -> Aliases: ...


class Stock:
    """Call `take` once, and `look` every second or so after that, never two of them at the same time.

    The first version of each new model becomes its champion before anybody here hears of it.
    """

    def __init__(self, scanner: Scanner, crowning: Crowning) -> None:
        self._scanner = scanner
        self._crowning = crowning
        self.catalog = Catalog()
        """What was found; without aliases."""
        self.number = 0
        """How often that was found to be different."""

    async def take(self) -> Catalog:
        """Look for the first time; what was found, under its aliases.

        Waits for the store as long as it takes: without it nobody knows which versions answer.
        """
        catalog = await in_daemon_thread(self._scanner.scan)
        for entry in catalog.broken:
            what = {"ref": f"{entry.model}/{entry.version}", "reason": entry.reason}
            log.error("a checkpoint is broken and not served", extra=what)
        while True:
            try:
                return catalog.with_aliases(await self._crown(catalog))
            except StoreUnavailable as error:
                log.error("waiting for the store", extra={"reason": error.reason})
                await asyncio.sleep(_RETRY_SECONDS)

    async def look(self) -> bool:
        """Look again; whether anything is different. Raises StoreUnavailable: nothing is, before the store knows."""
        catalog = await in_daemon_thread(self._scanner.scan)
        if self._scanner.number == self.number:
            return False
        await self._crown(catalog)
        log.info("the model roots changed", extra={"versions": len(list(catalog.versions()))})
        return True

    async def _crown(self, catalog: Catalog) -> Aliases:
        aliases = await self._crowning.crown_new_models(catalog.digests(), catalog.contracts())
        self.catalog, self.number = catalog, self._scanner.number
        return aliases
