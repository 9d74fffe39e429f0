from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from databases import Server
from hypothesis import HealthCheck, settings
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
from store.books import DAY, NOW, assert_books_balance, charge, open_at, reserve, settle

from policyguard.states import LEG_MOVES, Leg
from policyguard.steps import OverBudget, Reserved

LIMITS = {"day": 100, "month": 250}


@dataclass
class Model:
    """What a leg must be, kept in the plainest way."""

    charges: dict[tuple[str, datetime], int]
    ceiling: int
    expires: datetime
    state: Leg = Leg.HELD
    charged: int = 0
    sent: bool = False  # marked as sent, or settled as if it had been
    late: bool = False  # charged after its reservation had been released


class Ledger(RuleBasedStateMachine):
    """Against a model in Python: any order of reserves, sends, ends, sweeps, restarts and days."""

    legs = Bundle("legs")

    databases: Callable[[], AbstractContextManager[str]]

    @initialize()
    def open(self) -> None:
        self.database = type(self).databases()
        self.url = self.database.__enter__()
        self.store = open_at(self.url)
        self.model: dict[str, Model] = {}
        self.now = NOW

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.database.__exit__(None, None, None)

    # ---- what can happen --------------------------------------------------------------------------------------

    @rule(target=legs, amount=st.one_of(st.integers(1, 40), st.just(LIMITS["day"] + 1)))
    def reserve(self, amount: int) -> Any:
        leg = f"leg_{len(self.model)}"
        self.run_out()
        day = DAY + timedelta(days=(self.now - DAY).days)
        charges = {("day", day): amount, ("month", DAY): amount}
        fits = all(self.used(key) + amount <= LIMITS[key[0]] for key in charges)
        expires = self.now + timedelta(minutes=1)
        budgets = [charge(amount, LIMITS[name], key=name, starts=starts) for name, starts in charges]
        answer = self.store.perform(reserve(leg, *budgets, ceiling=amount, expires_at=expires), self.now)
        assert isinstance(answer, Reserved if fits else OverBudget)
        if not fits:
            return multiple()
        self.model[leg] = Model(charges, amount, expires)
        return leg

    @rule(leg=legs, minutes=st.integers(1, 20))
    def send(self, leg: str, minutes: int) -> None:
        model = self.model[leg]
        until = self.now + timedelta(minutes=minutes)
        may = model.state is Leg.HELD and self.now < model.expires
        assert self.store.mark_sent(leg, until, self.now) is may
        if may:
            model.state, model.expires, model.sent = Leg.SENT, until, True

    @rule(leg=legs, state=st.sampled_from([Leg.SETTLED, Leg.RELEASED, Leg.PRESUMED]), cost=st.integers(0, 70))
    def end(self, leg: str, state: Leg, cost: int) -> None:
        model = self.model[leg]
        if model.state is Leg.HELD and state is not Leg.RELEASED:
            model.state, model.sent = Leg.SENT, True  # what was used was sent, said or not
        may = state in LEG_MOVES[model.state] and not (model.state is Leg.RELEASED and model.sent)
        answer = self.store.perform(settle(leg, state, cost), self.now)  # type: ignore[arg-type]
        assert answer.changed is may
        if may:
            model.late = model.late or model.state is Leg.RELEASED
            model.sent = model.sent or model.state is Leg.RELEASED
            self.finish(model, state, cost)
        assert (answer.state, answer.charged_micros) == (model.state, model.charged)

    @rule(leg=legs)
    def replay(self, leg: str) -> None:
        model = self.model[leg]
        self.run_out()
        budgets = [charge(n, LIMITS[name], key=name, starts=starts) for (name, starts), n in model.charges.items()]
        assert self.store.perform(reserve(leg, *budgets, ceiling=model.ceiling), self.now) == Reserved()

    @rule(leg=legs)
    def never_answer(self, leg: str) -> None:
        self.send(leg, 1)
        self.wait(60)
        self.sweep()

    @rule(seconds=st.sampled_from([30, 60, 1_200, 86_400]))
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule()
    def sweep(self) -> None:
        self.store.sweep(self.now)
        self.run_out()

    @rule()
    def restart(self) -> None:
        self.store.close()
        self.store = open_at(self.url)

    # ---- what the model knows ---------------------------------------------------------------------------------

    def finish(self, model: Model, state: Leg, cost: int) -> None:
        model.state = state
        model.charged = {Leg.SETTLED: cost, Leg.RELEASED: 0, Leg.PRESUMED: model.ceiling}[state]

    def run_out(self) -> None:
        """What the store does by itself before a reserve."""
        for model in self.model.values():
            if model.state in (Leg.HELD, Leg.SENT) and model.expires <= self.now:
                self.finish(model, Leg.RELEASED if model.state is Leg.HELD else Leg.PRESUMED, 0)

    def used(self, key: tuple[str, datetime]) -> int:
        return sum(self.reserved(key)) + sum(self.spent(key))

    def reserved(self, key: tuple[str, datetime]) -> list[int]:
        live = (Leg.HELD, Leg.SENT)
        return [m.charges[key] for m in self.model.values() if key in m.charges and m.state in live]

    def spent(self, key: tuple[str, datetime]) -> list[int]:
        return [m.charged for m in self.model.values() if key in m.charges]

    # ---- what must hold ---------------------------------------------------------------------------------------

    @invariant()
    def balances_are_the_sums_of_legs(self) -> None:
        if not hasattr(self, "store"):
            return
        for window in self.store.budget_windows():
            key = (window.key, window.starts)
            assert (window.reserved, window.spent) == (sum(self.reserved(key)), sum(self.spent(key)))

    @invariant()
    def only_a_cost_above_its_ceiling_exceeds_a_limit(self) -> None:
        if not hasattr(self, "store"):
            return
        overshoot = sum(
            model.charged if model.late else max(0, model.charged - model.ceiling) for model in self.model.values()
        )
        for window in self.store.budget_windows():
            assert window.reserved + window.spent <= window.limit + overshoot

    @invariant()
    def every_end_has_one_row(self) -> None:
        if hasattr(self, "store"):
            assert_books_balance(self.url)


@contextmanager
def file() -> Iterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        yield f"sqlite:///{folder}/store.sqlite3"


def run(databases: Callable[[], AbstractContextManager[str]], examples: int) -> None:
    machine = type("Machine", (Ledger,), {"databases": staticmethod(databases)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )


def test_the_ledger_agrees_with_its_model_on_sqlite() -> None:
    run(file, 60)


def test_the_ledger_agrees_with_its_model_on_postgres(postgres: Server) -> None:
    run(postgres.database, 12)
