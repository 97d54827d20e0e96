"""Changes of what is in the store, asked of the recorder."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from service.domain import Ref, Rollout, Stage, Wish
from service.errors import StoreUnavailable
from service.store.base import NO_CONTRACTS, Aliases, AliasMove, Contracts, Found, Gone, StoredReport, Tag, WishChange
from service.store.jobs import Ending, Job, JobKind, JobNote, NewJob, Progress, Renewal, job_of
from service.store.messages import Facts, crown_facts, decision_of, error_of, move_of, rollout_of, wish_facts, wish_of
from service.store.rollouts import NO_POLICY, Decision, RolloutChange
from service.wire.frames import Frame, Kind
from service.wire.link import Link

_MAYBE_MADE = "what was asked for may still be done: look before asking again"


@dataclass(frozen=True, slots=True)
class ControlClient:
    """Opens a connection for each change: they are rare. `timeout` in seconds.

    Every change raises StoreUnavailable where the recorder does not answer. Unless it could not be asked at all,
    whether the change was made is then unknown; asking again is safe, where a verb says nothing else.
    """

    path: Path
    timeout: float = 10.0

    async def move_alias(
        self, model: str, alias: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> AliasMove:
        """As `Control.move_alias`."""
        facts = {"verb": "move_alias", "model": model, "alias": alias, "version": version}
        return move_of(await self._ask({**facts, "actor": actor, "reason": reason, "expected": expected}))

    async def change_wish(self, ref: Ref, change: WishChange) -> Wish:
        """As `Control.change_wish`; asked again, a reload is made again."""
        return wish_of(await self._ask(wish_facts(ref, change)))

    async def delete_version(self, ref: Ref) -> None:
        """As `Control.delete_version`."""
        await self._ask({"verb": "delete_version", "ref": str(ref)})

    async def delete_model(self, model: str, versions: Collection[int]) -> None:
        """As `Control.delete_model`."""
        await self._ask({"verb": "delete_model", "model": model, "versions": sorted(versions)})

    async def note_removed(self, ref: Ref) -> None:
        """As `Control.note_removed`."""
        await self._ask({"verb": "note_removed", "ref": str(ref)})

    async def crown_new_models(self, found: Found, contracts: Contracts = NO_CONTRACTS) -> Aliases:
        """As `Control.crown_new_models`."""
        aliases: Aliases = (await self._ask(crown_facts(found, contracts)))["aliases"]
        return aliases

    async def begin_rollout(
        self,
        model: str,
        version: int,
        *,
        stage: Stage,
        share: float,
        paused: bool = False,
        policy: Mapping[str, Any] = NO_POLICY,
        actor: str,
        reason: str,
    ) -> Rollout:
        """As `RolloutControl.begin_rollout`."""
        facts = {"model": model, "version": version, "stage": stage, "share": share, "paused": paused}
        by = {"policy": dict(policy), "actor": actor, "reason": reason}
        return rollout_of(await self._ask({"verb": "begin_rollout", **facts, **by}))

    async def change_rollout(
        self,
        model: str,
        change: RolloutChange,
        *,
        expected_version: int | None = None,
        expected_stage: Stage | None = None,
        actor: str,
        reason: str,
    ) -> Rollout:
        """As `RolloutControl.change_rollout`."""
        facts = {"verb": "change_rollout", "model": model, "change": asdict(change)}
        expected = {"expected_version": expected_version, "expected_stage": expected_stage}
        return rollout_of(await self._ask({**facts, **expected, "actor": actor, "reason": reason}))

    async def promote(
        self, model: str, version: int, *, actor: str, reason: str, expected: int | None = None
    ) -> Decision:
        """As `RolloutControl.promote`; asked again, it is AlreadyChampion."""
        facts = {"verb": "promote", "model": model, "version": version, "expected": expected}
        return decision_of(await self._ask({**facts, "actor": actor, "reason": reason}))

    async def roll_back(self, model: str, *, actor: str, reason: str, expected: int | None = None) -> Decision:
        """As `RolloutControl.roll_back`; asked again without `expected`, it goes back one step further."""
        facts = {"verb": "roll_back", "model": model, "expected": expected}
        return decision_of(await self._ask({**facts, "actor": actor, "reason": reason}))

    async def erase(self, ids: Sequence[str]) -> Gone:
        """As `Erasure.erase`."""
        return Gone(*(await self._ask({"verb": "erase", "ids": list(ids)}))["erased"])

    async def erase_tagged(
        self, tag: Tag, model: str | None, *, after: str = "", limit: int
    ) -> tuple[Gone, str | None]:
        """As `Erasure.erase_tagged`."""
        facts = {"verb": "erase_tagged", "tag": list(tag), "model": model, "after": after, "limit": limit}
        answer = await self._ask(facts)
        return Gone(*answer["erased"]), answer["after"]

    async def keep_report(self, report: StoredReport) -> None:
        """As `Reports.keep`."""
        await self._ask({"verb": "keep_report", "report": list(report)})

    async def enqueue_job(self, job: NewJob, *, single_flight: bool = True) -> Job:
        """As `Jobs.enqueue`."""
        facts = {"verb": "enqueue_job", "wanted": asdict(job), "single_flight": single_flight}
        return job_of((await self._ask(facts))["job"])

    async def lease_job(self, owner: str, *, seconds: float, kinds: Collection[JobKind]) -> Job | None:
        """As `Jobs.lease`. A job whose answer is lost is given out again once that lease has run out."""
        facts = {"verb": "lease_job", "owner": owner, "seconds": seconds, "kinds": list(kinds)}
        leased = (await self._ask(facts))["job"]
        return None if leased is None else job_of(leased)

    async def renew_job(self, job_id: str, owner: str, *, seconds: float, progress: Progress | None = None) -> Renewal:
        """As `Jobs.renew`."""
        told = None if progress is None else asdict(progress)
        facts = {"verb": "renew_job", "job": job_id, "owner": owner, "seconds": seconds, "progress": told}
        return Renewal._make((await self._ask(facts))["renewal"])

    async def note_job(self, job_id: str, owner: str, note: JobNote) -> bool:
        """As `Jobs.note`; asked again, it is noted again."""
        facts = {"verb": "note_job", "job": job_id, "owner": owner, "note": list(note)}
        return await self._is_held(facts)

    async def give_job_back(self, job_id: str, owner: str) -> bool:
        """As `Jobs.give_back`."""
        return await self._is_held({"verb": "give_job_back", "job": job_id, "owner": owner})

    async def finish_job(
        self,
        job_id: str,
        owner: str,
        state: Ending,
        result: Mapping[str, Any] | None = None,
        error: str | None = None,
    ) -> bool:
        """As `Jobs.finish`."""
        facts = {"verb": "finish_job", "job": job_id, "owner": owner, "state": state, "result": result, "error": error}
        return await self._is_held(facts)

    async def cancel_job(self, job_id: str, actor: str) -> Job:
        """As `Jobs.ask_cancel`."""
        return job_of((await self._ask({"verb": "cancel_job", "job": job_id, "actor": actor}))["job"])

    async def _is_held(self, facts: dict[str, Any]) -> bool:
        is_held: bool = (await self._ask(facts))["is_held"]
        return is_held

    async def _ask(self, facts: dict[str, Any]) -> Facts:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Frame] = loop.create_future()

        def lost() -> None:
            if not answer.done():
                answer.set_exception(StoreUnavailable(f"the recorder stopped before it answered; {_MAYBE_MADE}"))

        try:
            async with asyncio.timeout(self.timeout):
                link = (
                    await loop.create_unix_connection(lambda: Link(answer.set_result, closed=lost), str(self.path))
                )[1]
        except (TimeoutError, OSError):
            raise StoreUnavailable("the recorder can't be reached; nothing was changed") from None
        try:
            link.send(Frame(Kind.CHANGE, meta=facts))
            async with asyncio.timeout(self.timeout):
                frame = await answer
        except (TimeoutError, OSError):
            raise StoreUnavailable(f"the recorder does not answer; {_MAYBE_MADE}") from None
        finally:
            link.close()
        if frame.kind is Kind.FAILED:
            raise error_of(frame.meta, "the recorder")
        return frame.meta
