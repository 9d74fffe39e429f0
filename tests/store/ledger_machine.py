"""The ledger against a model in Python: any order of reserves, sends, ends, sweeps, crashes, limits and clocks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from store.books import DAY, NOW, VAULT, assert_books_balance, charge, reserve, settle

from policyguard.flow.states import LEG_MOVES, LegState
from policyguard.flow.steps import OverBudget, Reserved
from policyguard.policy.model import Unit
from policyguard.store import open_store

Databases = Callable[[], AbstractContextManager[str]]
Key = tuple[str, datetime]
UNITS: dict[str, Unit] = {"day": "usd", "month": "usd", "calls": "requests", "images": "images"}
LIMITS = {"day": 60, "month": 50, "calls": 5, "images": 7}  # small, so that each is the first one now and then
ALERTS = {"day": (50, 100), "calls": (50,)}
LIVE = (LegState.HELD, LegState.SENT)


@dataclass
class Model:
    """What a leg must be, kept in the plainest way."""

    charges: dict[Key, int]
    ceiling: int
    expires: datetime
    state: LegState = LegState.HELD
    charged: int = 0
    sent: bool = False  # marked as sent, or settled as if it had been
    late: bool = False  # charged after its reservation had been released

    def takes(self, key: Key) -> int:
        """What of a window is spent for it."""
        if UNITS[key[0]] == "usd":
            return self.charged
        return self.charges[key] if self.state in (LegState.SETTLED, LegState.PRESUMED) else 0


class Ledger(RuleBasedStateMachine):
    legs = Bundle("legs")

    databases: Databases

    @initialize()
    def open(self) -> None:
        self.database = type(self).databases()
        self.url = self.database.__enter__()
        self.store = open_store(self.url, vault=VAULT, synchronous="NORMAL")
        self.model: dict[str, Model] = {}
        self.now = NOW
        self.limits = dict(LIMITS)
        self.window_limits: dict[Key, int] = {}
        self.bounds: dict[Key, int] = {}
        self.told: dict[Key, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            try:
                assert_books_balance(self.url)
            finally:
                self.database.__exit__(None, None, None)

    # ---- what can happen --------------------------------------------------------------------------------------

    @rule(
        target=legs,
        amount=st.sampled_from([1, 10, 25, 40, LIMITS["day"] + 1]),
        images=st.integers(1, 3),
        minutes=st.sampled_from([1, 5, 30]),
    )
    def reserve(self, amount: int, images: int, minutes: int) -> Any:
        leg = f"leg_{len(self.model)}"
        self.run_out()
        day = DAY + timedelta(days=(self.now - DAY).days)
        charges = {("day", day): amount, ("month", DAY): amount, ("calls", day): 1, ("images", day): images}
        fits = all(self.used(key) + taken <= self.limits[key[0]] for key, taken in charges.items())
        expires = self.now + timedelta(minutes=minutes)
        answer = self.store.perform(reserve(leg, *self.budgets(charges), ceiling=amount, expires_at=expires), self.now)
        assert isinstance(answer, Reserved if fits else OverBudget)
        if not fits:
            return multiple()
        self.model[leg] = Model(charges, amount, expires)
        for key in charges:
            self.window_limits[key] = self.limits[key[0]]
            self.bounds[key] = max(self.limits[key[0]], self.bounds.get(key, 0))
        assert self.alerts(answer) == self.reached(charges)
        return leg

    @rule(leg=legs, minutes=st.integers(1, 20))
    def send(self, leg: str, minutes: int) -> None:
        model = self.model[leg]
        until = self.now + timedelta(minutes=minutes)
        may = model.state is LegState.HELD and self.now < model.expires
        assert self.store.mark_sent(leg, until, self.now) is may
        if may:
            model.state, model.expires, model.sent = LegState.SENT, until, True

    @rule(leg=legs, minutes=st.integers(1, 20), late=st.booleans())
    def send_at_the_last_moment(self, leg: str, minutes: int, late: bool) -> None:
        self.now = max(self.now, self.model[leg].expires - timedelta(microseconds=not late))
        self.send(leg, minutes)

    @rule(leg=legs, minutes=st.integers(1, 20))
    def renew(self, leg: str, minutes: int) -> None:
        model, until = self.model[leg], self.now + timedelta(minutes=minutes)
        may = model.state is LegState.SENT
        assert self.store.renew(leg, until) is may
        if may:
            model.expires = until

    @rule(
        leg=legs,
        state=st.sampled_from([LegState.SETTLED, LegState.RELEASED, LegState.PRESUMED]),
        cost=st.integers(0, 70),
        times=st.integers(1, 2),
    )
    def end(self, leg: str, state: LegState, cost: int, times: int) -> None:
        for _ in range(times):
            self.end_once(leg, state, cost)

    def end_once(self, leg: str, state: LegState, cost: int) -> None:
        model = self.model[leg]
        if model.state is LegState.HELD and state is not LegState.RELEASED:
            model.state, model.sent = LegState.SENT, True  # what was used was sent, said or not
        may = state in LEG_MOVES[model.state] and not (model.state is LegState.RELEASED and model.sent)
        answer = self.store.perform(settle(leg, state, cost), self.now)  # type: ignore[arg-type]
        assert answer.changed is may
        if may:
            model.late = model.late or model.state is LegState.RELEASED
            model.sent = model.sent or model.state is LegState.RELEASED
            self.finish(model, state, cost)
            assert self.alerts(answer) == self.reached(model.charges)
        assert (answer.state, answer.charged_micros) == (model.state, model.charged)

    @rule(leg=legs, cost=st.one_of(st.none(), st.integers(0, 70)))
    def reconcile(self, leg: str, cost: int | None) -> None:
        model = self.model[leg]
        answer = self.store.reconcile(leg, cost, by="ada", why="the invoice", now=self.now)
        assert answer.changed is (model.state is LegState.PRESUMED)
        if answer.changed:
            self.finish(model, LegState.RELEASED if cost is None else LegState.SETTLED, cost or 0)
            assert self.alerts(answer) == self.reached(model.charges)

    @rule(leg=legs)
    def replay(self, leg: str) -> None:
        model = self.model[leg]
        self.run_out()
        step = reserve(leg, *self.budgets(model.charges), ceiling=model.ceiling)
        assert self.store.perform(step, self.now) == Reserved()

    @rule(leg=legs, late=st.booleans())
    def let_it_run_out(self, leg: str, late: bool) -> None:
        """Up to the moment at which it is swept, or the one before."""
        self.now = max(self.now, self.model[leg].expires - timedelta(microseconds=not late))
        self.sweep()

    @rule(seconds=st.sampled_from([30, 60, 1_200, 86_400]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(seconds=st.sampled_from([1, 90, 3_600]))
    def set_the_clock_back(self, seconds: int) -> None:
        self.now = max(NOW, self.now - timedelta(seconds=seconds))

    @rule(name=st.sampled_from(sorted(LIMITS)), share=st.sampled_from([50, 100, 150]))
    def change_a_limit(self, name: str, share: int) -> None:
        self.limits[name] = LIMITS[name] * share // 100

    @rule()
    def sweep(self) -> None:
        self.store.sweep(self.now)
        self.run_out()

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = open_store(self.url, vault=VAULT, synchronous="NORMAL")

    @rule()
    def crash_and_be_swept(self) -> None:
        """Whatever step every leg was at: nobody comes back for it, and time alone ends it."""
        self.restart()
        self.now += timedelta(minutes=30)
        self.sweep()
        assert all(window.reserved == 0 for window in self.store.budget_windows())

    # ---- what the model knows ---------------------------------------------------------------------------------

    def budgets(self, charges: dict[Key, int]) -> list[Any]:
        return [
            charge(n, self.limits[name], key=name, starts=at, unit=UNITS[name], alert_at=ALERTS.get(name, ()))
            for (name, at), n in charges.items()
        ]

    def finish(self, model: Model, state: LegState, cost: int) -> None:
        model.state = state
        model.charged = {LegState.SETTLED: cost, LegState.RELEASED: 0, LegState.PRESUMED: model.ceiling}[state]

    def run_out(self) -> None:
        """What the store does by itself before a reserve."""
        for model in self.model.values():
            if model.state in LIVE and model.expires <= self.now:
                self.finish(model, LegState.RELEASED if model.state is LegState.HELD else LegState.PRESUMED, 0)

    def used(self, key: Key) -> int:
        return self.reserved(key) + self.spent(key)

    def reserved(self, key: Key) -> int:
        return sum(m.charges[key] for m in self.model.values() if key in m.charges and m.state in LIVE)

    def spent(self, key: Key) -> int:
        return sum(m.takes(key) for m in self.model.values() if key in m.charges)

    def reached(self, charges: dict[Key, int]) -> list[tuple[str, int]]:
        """The thresholds that these windows have reached and nobody was told of."""
        found = []
        for key in charges:
            share = self.used(key) * 100 // self.window_limits[key]
            due = [p for p in ALERTS.get(key[0], ()) if self.told.get(key, 0) < p <= share]
            self.told[key] = max([self.told.get(key, 0), *due])
            found += [(key[0], p) for p in due]
        return sorted(found)

    @staticmethod
    def alerts(answer: Any) -> list[tuple[str, int]]:
        return sorted((alert.budget_id, alert.per_cent) for alert in answer.alerts)

    # ---- what must hold ---------------------------------------------------------------------------------------

    @invariant()
    def balances_are_the_sums_of_legs_and_within_the_limits(self) -> None:
        """Only a cost above its ceiling exceeds a limit, and one that comes after the money had been given back."""
        for window in self.store.budget_windows() if hasattr(self, "store") else ():
            key = (window.key, window.starts)
            assert (window.reserved, window.spent) == (self.reserved(key), self.spent(key))
            assert min(window.reserved, window.spent) >= 0
            assert window.limit == self.window_limits[key]
            over = sum(self.overshoot(model, key) for model in self.model.values() if key in model.charges)
            assert window.reserved + window.spent <= self.bounds[key] + over

    def overshoot(self, model: Model, key: Key) -> int:
        """What was charged beyond what had been reserved, or after that had been given back."""
        return model.takes(key) if model.late else max(0, model.takes(key) - model.charges[key])


@contextmanager
def file() -> Iterator[str]:
    """A database of SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/store.sqlite3"


def run(databases: Databases, examples: int, *, phases: tuple[Phase, ...] = tuple(Phase)) -> None:
    machine = type("Machine", (Ledger,), {"databases": staticmethod(databases)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            database=None,
            phases=phases,
            report_multiple_bugs=False,
        ),
    )
