"""Guard: one object for sync and async code that drives the flow with the store, a moderator and the clock.

Sync and async differ in who performs a step: the path of a request itself is in `flow`, once. Store calls
run off the event loop; only moderation is natively async.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeAlias, TypeVar, Unpack

import anyio

from policyguard.audit.keys import open_vault
from policyguard.audit.private import Vault
from policyguard.audit.seal import seal
from policyguard.decision import Admission, Decision, Effect, Held, Reason, Refused, Ticket
from policyguard.engine.callers import check_caller
from policyguard.errors import ConfigError, InvalidRequest, PolicyguardError, StoreUnavailable
from policyguard.flow.admit import admit, reject
from policyguard.flow.ask import Ask, AskOptions, Unreadable
from policyguard.flow.drive import adrive, drive
from policyguard.flow.inspect import inspect
from policyguard.flow.reasons import malformed_reason, unavailable_reason
from policyguard.flow.refuse import refuse
from policyguard.flow.settle import ended, settle
from policyguard.flow.states import LegState
from policyguard.flow.steps import Look, Moderate, Record, Settled, Step
from policyguard.guard import decorator, moderate
from policyguard.guard.current import current_caller, current_review
from policyguard.guard.later import Later
from policyguard.guard.renewal import Renewal
from policyguard.guard.strangers import Strangers
from policyguard.ids import draw, new_id
from policyguard.logs import say
from policyguard.moderation import Moderator
from policyguard.moderation.chosen import check_moderator
from policyguard.moderation.installed import Installed
from policyguard.policy.model import PolicySet
from policyguard.policy.watch import ReloadState, Watch, every_s
from policyguard.request import Caller, ImageRequest, Outcome, Output
from policyguard.settings import setting
from policyguard.store import Store, key_path, open_store
from policyguard.store.clock import host_now, is_due
from policyguard.store.db.patience import patience, request_s, waiting
from policyguard.telemetry import lines
from policyguard.telemetry.ledger import LedgerGauges
from policyguard.telemetry.path import Telemetry
from policyguard.threads import in_thread

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A")
Deciding: TypeAlias = "Generator[Step | Sweep, Any, A]"
UPSTREAM_TIMEOUT = timedelta(seconds=600)  # the OpenAI SDK's own
SENT_FOR = UPSTREAM_TIMEOUT + timedelta(seconds=60)
SWEEP_EVERY = timedelta(seconds=30)
SEALED_AT_ONCE = 1_000  # rows


@dataclass(frozen=True, slots=True)
class Sweep:
    """What the guard asks of itself before a flow, now and then. Answer: None."""


class Guard:
    """Enforces a folder of policies. Thread-safe; survives a fork; close it when done, or use it in a `with`."""

    def __init__(
        self,
        policies: PolicySet | Watch,
        *,
        store: Store,
        moderator: Moderator,
        vault: Vault,
        clock: Callable[[], datetime] | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.telemetry = telemetry or Telemetry()
        self._watch = policies if isinstance(policies, Watch) else Watch(policies, clock=clock or host_now)
        self._watch.fits = partial(check_moderator, moderator=moderator)
        self._watch.fits(self._watch.policies)
        weakref.finalize(self, self._watch.close)  # a guard that nobody closed leaves no thread
        self.store = store
        self.vault = vault
        self.clock = clock = clock or store.clock.now
        self.ledger = LedgerGauges(lambda: replace(store.gauges(clock()), clock_skew_s=store.clock.skew_s))
        self.telemetry.otel.show(self.ledger)
        store.on_cut.append(self.telemetry.measures.cut)
        self._moderator = moderator
        self.store_timeout_s = waits_s = request_s()
        self._renewal = Renewal(lambda leg_id: waiting(waits_s, store.renew, leg_id, clock() + SENT_FOR))
        self._later = Later(store, self.telemetry, clock, store_timeout_s=waits_s, for_s=SENT_FOR.total_seconds())
        weakref.finalize(self, self._renewal.close)
        weakref.finalize(self, self._later.leave)
        self._strangers = Strangers(vault.pseudonym, partial(_id, "sum"))
        self._swept_at: datetime | None = None
        self._sweeping = threading.Lock()

    @classmethod
    def open(
        cls,
        policies: str | Path | None = None,
        *,
        store: str | None = None,
        moderator: Moderator | None = None,
        key_file: str | Path | None = None,
        watch: bool | float | None = None,
        clock: Callable[[], datetime] | None = None,
        telemetry: Telemetry | None = None,
    ) -> Self:
        """Load a policies folder and open the store.

        `watch` is how many seconds pass between looks at the folder: what changed there is in force soon after. False
        never looks, and only `reload` changes the policies. `store` is a URL such as `sqlite:///policyguard.sqlite3`.
        Without `moderator` each installed one is asked for its models; omni-moderation needs `OPENAI_API_KEY`.
        `telemetry` is for a host whose OpenTelemetry providers are not the global ones. Without `clock` the store's
        counts: on PostgreSQL the time of the database, for every host alike.
        Whatever is not given comes from the settings (`policyguard doctor` lists them).
        Raises `PolicyError` with every problem of the policies, `ConfigError` for anything else.
        """
        folder = str(policies) if policies is not None else setting("policies")
        url = setting("store", store)
        if folder is None or url is None:  # both have defaults; this tells the type checker
            raise ConfigError("a policies folder and a store are needed")
        followed = Watch.open(folder, clock=clock or host_now, every_s=every_s(watch))
        check_moderator(followed.policies, moderator=(chosen := moderator or Installed()))  # before a key is made
        vault = open_vault(key_path(url, str(key_file) if key_file else None), create=True)
        opened = open_store(url, vault=vault)
        opened.check()  # a wrong key or a broken database shows now, not at the first request
        return cls(followed, store=opened, moderator=chosen, vault=vault, clock=clock, telemetry=telemetry)

    # ---- policies ---------------------------------------------------------------------------------------------

    @property
    def policies(self) -> PolicySet:
        """The policies in force. They are replaced as a whole."""
        return self._watch.policies

    @property
    def policies_state(self) -> ReloadState:
        """Which set is in force, and since when and why the folder holds another that is not."""
        return self._watch.state

    def reload(self) -> PolicySet:
        """Load the folder now. Raises `PolicyError` and keeps the set in force where it does not load."""
        return self._watch.reload()

    def follow(self) -> None:
        """Begin to look at the folder in this process. The first request does it, too; a forked worker anew."""
        self._watch.follow()

    async def afollow(self) -> None:
        """`follow` for async code."""
        if not self._watch.following:
            await in_thread(self._watch.follow)

    # ---- admit ------------------------------------------------------------------------------------------------

    def admit(
        self, request: ImageRequest, caller: Caller | None = None, *, surface: str, **options: Unpack[AskOptions]
    ) -> Admission:
        """Decide one request. `caller` (else the one of `policyguard.caller(...)`) holds the values as given.

        Raises `ConfigError` for a caller value that org.yaml does not declare.

        An `Admitted` has money reserved: call `sent` before the request goes upstream and `settle` after it.
        """
        self.follow()
        return self._drive(self._admitting(request, caller, surface, options))

    async def aadmit(
        self, request: ImageRequest, caller: Caller | None = None, *, surface: str, **options: Unpack[AskOptions]
    ) -> Admission:
        """`admit` for async code."""
        await self.afollow()
        return await self._adrive(self._admitting(request, caller, surface, options))

    def reject(
        self,
        error: InvalidRequest | Reason,
        *,
        surface: str | None,
        caller: Caller | None = None,
        door: str = "python",
        address: str | None = None,
    ) -> Refused:
        """Record and refuse what never became a request: bad input, or an image route that no surface claims."""
        return self._drive(self._rejecting(self._unreadable(error, surface, caller, door, address)))

    async def areject(
        self,
        error: InvalidRequest | Reason,
        *,
        surface: str | None,
        caller: Caller | None = None,
        door: str = "python",
        address: str | None = None,
    ) -> Refused:
        """`reject` for async code."""
        return await self._adrive(self._rejecting(self._unreadable(error, surface, caller, door, address)))

    def _admitting(
        self, request: ImageRequest, caller: Caller | None, surface: str, options: AskOptions
    ) -> Deciding[Admission]:
        policies, caller = options.get("policies") or self.policies, caller or current_caller()
        check_caller(policies.caller, caller)
        ask = self._ask(request, caller, surface, options)
        known = surface if surface in policies.surfaces else None
        steps = self._surely(admit(policies, ask, self.vault), known, ask.decision_id, ask.leg_id)
        return self.telemetry.deciding(steps, surface=known, door=ask.door, models=policies.prices.models)

    def _rejecting(self, what: Unreadable) -> Deciding[Refused]:
        steps = self._surely(reject(self.policies, what, self.vault), what.surface, what.decision_id)
        return self.telemetry.deciding(steps, surface=what.surface, door=what.door, models=self.policies.prices.models)

    def _ask(self, request: ImageRequest, caller: Caller, surface: str, options: AskOptions) -> Ask:
        now, started, random = self.clock(), time.monotonic(), draw(30)
        return Ask(
            request=request,
            caller=caller,
            surface=surface,
            now=now,
            decision_id=new_id("dec", now, random[:10]),
            leg_id=new_id("leg", now, random[10:20]),
            new_review_id=new_id("rev", now, random[20:]),
            review_id=options.get("review_id") or current_review(),
            door=options.get("door", "python"),
            forced=options.get("forced", True),
            fixed=options.get("fixed", frozenset()),
            upstream=options.get("upstream"),
            request_id=options.get("request_id"),
            address=options.get("address"),
            ticket=options.get("ticket"),
            retry_of=options.get("retry_of"),
            sent_for=SENT_FOR if options.get("sends") else None,
            elapsed_ms=lambda: round((time.monotonic() - started) * 1000),
        )

    def _unreadable(
        self, error: InvalidRequest | Reason, surface: str | None, caller: Caller | None, door: str, address: str | None
    ) -> Unreadable:
        now = self.clock()
        return Unreadable(
            reason=malformed_reason(error) if isinstance(error, InvalidRequest) else error,
            surface=surface,
            caller=caller or current_caller(),
            now=now,
            decision_id=_id("dec", now),
            door=door,
            address=address,
        )

    # ---- after admission --------------------------------------------------------------------------------------

    def sent(self, ticket: Ticket) -> bool:
        """Mark the reservation as sent, before the request goes upstream. False: it ran out, do not send."""
        now = self.clock()
        try:
            return waiting(self.store_timeout_s, self.store.mark_sent, ticket.leg_id, now + SENT_FOR, now)
        except StoreUnavailable as error:
            return self._later.not_sent(ticket, error)

    async def asent(self, ticket: Ticket) -> bool:
        """`sent` for async code."""
        now = self.clock()
        try:
            with patience(self.store_timeout_s, within=True):
                return await self.store.amark_sent(ticket.leg_id, now + SENT_FOR, now)
        except StoreUnavailable as error:
            return self._later.not_sent(ticket, error)

    @contextmanager
    def alive(self, ticket: Ticket, *, current: bool = True) -> Iterator[None]:
        """While this lasts the request is upstream, however long that takes: else it is presumed after eleven minutes.

        The doors do it by themselves; code that calls `sent` and `settle` by hand puts its call into this `with`.
        `current` false: it may end elsewhere than where it began, so spans inside are no children of the call's.
        """
        spans = self.telemetry.spans
        inside = spans.within if current else nullcontext
        with self._renewal.alive(ticket.leg_id), spans.upstream(ticket), inside(ticket):
            yield

    def settle(self, ticket: Ticket, outcome: Outcome) -> Settled:
        """Say what happened upstream. Twice is once. With the store down it is tried until the leg's time is over."""
        return self._drive(self._settling(ticket, outcome), anew=True)

    async def asettle(self, ticket: Ticket, outcome: Outcome) -> Settled:
        """`settle` for async code, shielded: a cancelled request is still accounted for."""
        return await self._shielded(self._settling(ticket, outcome), partial(self.settle, ticket, outcome))

    def inspect(
        self, ticket: Ticket, outcome: Outcome, output: Output, *, settles: bool = True
    ) -> Refused | Held | None:
        """Look at an answer before it is released, and settle its leg by `outcome`. None: it may be released.

        For tickets with `output`; for others `settle` is all there is to do. `settles` false: a call inside did it.
        """
        return self._drive(self._inspecting(ticket, outcome, output, settles), anew=True)

    async def ainspect(
        self, ticket: Ticket, outcome: Outcome, output: Output, *, settles: bool = True
    ) -> Refused | Held | None:
        """`inspect` for async code, shielded: what was made is paid for, whoever still waits for it."""
        settle = partial(self.settle, ticket, outcome) if settles else None
        return await self._shielded(self._inspecting(ticket, outcome, output, settles), settle)

    async def _shielded(self, steps: Generator[Step, Any, A], settle: Callable[[], object] | None) -> A:
        """Run to the end although the request was cancelled."""
        try:
            with anyio.CancelScope(shield=True):
                answer = await self._adrive(steps, anew=True)
        except Exception:
            raise
        except BaseException:  # cancelled past the shield, for example at shutdown: settling twice is settling once
            if settle is not None:
                threading.Thread(target=settle, name="policyguard-settle").start()
            raise
        return answer

    def _inspecting(
        self, ticket: Ticket, outcome: Outcome, output: Output, settles: bool
    ) -> Generator[Step, Any, Refused | Held | None]:
        return self.telemetry.inspecting(self._inspected(ticket, outcome, output, settles), ticket, outcome)

    def _inspected(
        self, ticket: Ticket, outcome: Outcome, output: Output, settles: bool
    ) -> Generator[Step, Any, Refused | Held | None]:
        now = self.clock()
        end = ended(ticket, outcome, now) if settles else None
        try:
            return (yield from inspect(ticket.output, output, end, now, _id("rev", now)))
        except StoreUnavailable as error:
            if end is not None:
                self._later.settle(ticket, outcome, now, error)
            if not ticket.output.policy.holds_back:  # shadow changes no answer
                return None
            refused = self._store_down(ticket.surface, ticket.decision_id, error)
            return replace(refused, retry_after_s=None, stage="output")

    def _settling(self, ticket: Ticket, outcome: Outcome) -> Generator[Step, Any, Settled]:
        return self.telemetry.settling(self._settled(ticket, outcome, self.clock()), ticket, outcome)

    def _settled(self, ticket: Ticket, outcome: Outcome, now: datetime) -> Generator[Step, Any, Settled]:
        try:
            return (yield from settle(ticket, outcome, now))
        except StoreUnavailable as error:
            self._later.settle(ticket, outcome, now, error)
            return Settled(LegState.SENT, 0, ticket.ceiling_micros, False)

    def enforce(
        self,
        surface: str,
        *,
        constants: Mapping[str, str | int] | None = None,
        fields: Mapping[str, str] | None = None,
        usage: Callable[[Any], Any] | None = None,
        images: Callable[[Any], Iterable[bytes | str]] | None = None,
        restore: Callable[[list[bytes]], Any] | None = None,
        not_sent: Collection[str] = (),
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Guard a function that makes images, sync or async, whose arguments are named like the API's.

        Each of model, size, quality and n is an argument or a declared constant. `fields` maps a parameter to an
        argument of another name; `usage` reads token counts from what the function returns. Where output images are
        looked at, `images` reads them from it, as bytes or base64; where they can be held for a review, `restore` makes
        of the approved ones what the function would have returned. Other arguments hold plain values and short texts;
        `not_sent` names those of which nothing goes to OpenAI, like a database session. Refusals raise `PolicyRefused`.
        """
        return decorator.enforce(
            self,
            surface,
            constants=constants,
            fields=fields,
            usage=usage,
            images=images,
            restore=restore,
            not_sent=not_sent,
        )

    # ---- drivers ----------------------------------------------------------------------------------------------

    def _drive(self, steps: Generator[Any, Any, A], *, anew: bool = False) -> A:
        """With one patience for all that it asks of the store: its door's, if that has one, or `anew` its own."""
        with patience(self.store_timeout_s, within=not anew):
            return drive(steps, self._perform)

    async def _adrive(self, steps: Generator[Any, Any, A], *, anew: bool = False) -> A:
        with patience(self.store_timeout_s, within=not anew):
            return await adrive(steps, self._aperform)

    def _surely(
        self, steps: Generator[Step, Any, A], surface: str | None, decision_id: str, leg_id: str | None = None
    ) -> Deciding[A | Refused]:
        """A flow after the upkeep that is due. Without the store nothing passes."""
        try:
            if self._sweep_is_due():
                yield Sweep()
            return (yield from steps)
        except StoreUnavailable as error:
            if leg_id is not None:
                self._later.give_back(leg_id, error)
            return self._store_down(surface, decision_id, error)

    def _perform(self, step: Step | Sweep) -> Any:
        if isinstance(step, Moderate):
            return moderate.verdict(step, self._moderator)
        if isinstance(step, Look):
            return moderate.assess(step, self._moderator)
        if isinstance(step, Sweep):
            return self._sweep_when_due()
        known = self._strangers.bounded(step, self.clock())
        return self.store.perform(known, self.clock()) if known is not None else ()

    async def _aperform(self, step: Step | Sweep) -> Any:
        if isinstance(step, Moderate):
            return await moderate.averdict(step, self._moderator)
        if isinstance(step, Look):
            return await moderate.alook(step, self._moderator)
        if isinstance(step, Sweep):
            return await in_thread(self._sweep_when_due)
        known = self._strangers.bounded(step, self.clock())
        return await self.store.aperform(known, self.clock()) if known is not None else ()

    def _store_down(self, surface: str | None, decision_id: str, error: StoreUnavailable) -> Refused:
        """Never allowed and not recorded: without the store nothing passes."""
        lines.store_down(decision_id, surface, error)
        why, digest = (unavailable_reason("store"),), self.policies.digest
        decision = Decision(id=decision_id, surface=surface, policy_digest=digest, effect=Effect.DENY, reasons=why)
        return refuse(decision, policy=self.policies.surfaces.get(surface or ""), now=self.clock())

    # ---- upkeep -----------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Release what was never sent, presume what never came back, expire and escalate reviews, apply retention.

        Then seal rows of the record, so many that no request waits long; `policyguard jobs run` seals without a bound.
        """
        self.store.clock.set()
        if counted := self._strangers.counted(self.clock()):
            self.store.perform(Record(counted), self.clock())
        lines.swept(self.store.sweep(self.clock()))
        try:
            seal(self.store, self.vault, self.clock(), most=SEALED_AT_ONCE)
        except PolicyguardError as error:  # rows are written as before, and are sealed when it can be done
            say(logging.ERROR, "record.unsealed", "the record was not sealed: %s", error)

    def _sweep_is_due(self) -> bool:
        return is_due(self._swept_at, self.clock(), SWEEP_EVERY)

    def _sweep_when_due(self) -> None:
        if not self._sweep_is_due() or not self._sweeping.acquire(blocking=False):
            return
        try:
            self._swept_at = self.clock()
            waiting(self.store_timeout_s, self.sweep)  # who comes by does not pay for what there is to do
        finally:
            self._sweeping.release()

    def close(self) -> None:
        self.telemetry.otel.hide(self.ledger)
        self._watch.close()
        self._renewal.close()
        self._later.close()
        self.store.close()
        self._moderator.close()

    async def aclose(self) -> None:
        """`close` for async code."""
        self.telemetry.otel.hide(self.ledger)
        await in_thread(self._watch.close)
        await in_thread(self._renewal.close)
        await in_thread(self._later.close)
        await in_thread(self.store.close)
        await self._moderator.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def _id(prefix: str, now: datetime) -> str:
    return new_id(prefix, now, draw(10))
