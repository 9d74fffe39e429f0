"""The ledger agrees with its model; and where the ledger had a bug, the model would say so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from databases import Server
from hypothesis import Phase
from store.ledger_machine import file, run

from policyguard.errors import StoreUnavailable
from policyguard.flow.states import LegState
from policyguard.store import alerts, due, ledger, reconcile, windows
from policyguard.store.db.sql import Sql


def test_the_ledger_agrees_with_its_model_on_sqlite() -> None:
    run(file, 60)


def test_the_ledger_agrees_with_its_model_on_postgres(postgres: Server) -> None:
    run(postgres.database, 12)


# ---- a test of the test -----------------------------------------------------------------------------------

Patch = pytest.MonkeyPatch


def _rewrite(patch: Patch, module: Any, name: str, old: str, new: str) -> None:
    """One statement with a mistake in it."""
    text = getattr(module, name).named
    assert old in text, f"{name} has no `{old}` any more"
    patch.setattr(module, name, Sql(text.replace(old, new)))


def _rewrite_take(patch: Patch, *changes: tuple[str, str]) -> None:
    """The reservation's statement with mistakes in it."""
    for change in changes:
        _rewrite(patch, windows, "_TAKE", *change)


def a_second_settle_adds_once_more(patch: Patch) -> None:
    _rewrite(patch, ledger, "_END", "AND state = v.source", "AND (state = v.source OR state = 'settled')")


def legs_run_out_before_their_time(patch: Patch) -> None:
    _rewrite(patch, due, "_DUE_LEGS", "AND l.expires_us <= :now", "AND l.expires_us <= :now + 600000000")
    _rewrite(patch, ledger, "_END", "AND expires_us <= v.due", "")


def one_budget_is_not_checked(patch: Patch) -> None:
    _rewrite_take(
        patch,
        ("c.mode <> 'shadow'", "c.mode <> 'shadow' AND c.key <> 'month'"),
        ("WHERE excluded.mode = 'shadow'", "WHERE excluded.mode = 'shadow' OR excluded.key = 'month'"),
    )


def what_is_reserved_does_not_count(patch: Patch) -> None:
    _rewrite_take(
        patch,
        ("COALESCE(w.spent + w.reserved, 0)", "COALESCE(w.spent, 0)"),
        ("OR budget_windows.spent + budget_windows.reserved +", "OR budget_windows.spent +"),
    )


def what_was_presumed_is_not_charged(patch: Patch) -> None:
    _rewrite(patch, ledger, "_END", "COALESCE(v.charge, ceiling_micros)", "COALESCE(v.charge, 0)")


def a_lost_outcome_gives_the_money_back(patch: Patch) -> None:
    patch.setitem(due._RUN_OUT, LegState.SENT, (LegState.RELEASED, "leg.released", "lost"))  # type: ignore[misc]


def a_release_is_possible_after_it_was_settled(patch: Patch) -> None:
    patch.setitem(ledger._SOURCES, LegState.RELEASED, ["sent", "held", "presumed", "settled"])  # type: ignore[misc]


def a_late_settle_is_dropped(patch: Patch) -> None:
    patch.setitem(ledger._SOURCES, LegState.SETTLED, ["sent"])  # type: ignore[misc]


def a_late_settle_forgets_what_was_presumed(patch: Patch) -> None:
    _rewrite(patch, ledger, "_END", "ELSE presumed_micros END", "ELSE 0 END")


def a_window_is_reset_in_place(patch: Patch) -> None:
    _rewrite_take(
        patch, ("SET reserved = budget_windows.reserved +", "SET spent = 0, reserved = budget_windows.reserved +")
    )


def a_reservation_that_ran_out_is_sent(patch: Patch) -> None:
    _rewrite(patch, ledger, "_SEND", "AND legs.expires_us > v.now", "")


def an_ended_leg_gets_more_time(patch: Patch) -> None:
    _rewrite(patch, ledger, "_RENEW", "AND state = 'sent'", "")


def a_changed_limit_is_not_taken_over(patch: Patch) -> None:
    _rewrite_take(patch, ("limit_amount = excluded.limit_amount,", ""))


def images_are_given_back_when_it_is_settled(patch: Patch) -> None:
    _rewrite(patch, windows, "_MOVE", "ELSE m.images END", "ELSE 0 END")


def an_alert_is_told_again(patch: Patch) -> None:
    _rewrite(patch, alerts, "_TELL", "SET alerted = :per_cent", "SET alerted = :per_cent - 100")


def a_leg_in_flight_can_be_reconciled(patch: Patch) -> None:
    end = reconcile.end_leg
    patch.setattr(reconcile, "end_leg", lambda leg, source, *rest: end(leg, LegState.SENT, *rest))


BUGS: tuple[Callable[[Patch], None], ...] = (
    a_second_settle_adds_once_more,
    legs_run_out_before_their_time,
    one_budget_is_not_checked,
    what_is_reserved_does_not_count,
    what_was_presumed_is_not_charged,
    a_lost_outcome_gives_the_money_back,
    a_release_is_possible_after_it_was_settled,
    a_late_settle_is_dropped,
    a_late_settle_forgets_what_was_presumed,
    a_window_is_reset_in_place,
    a_reservation_that_ran_out_is_sent,
    an_ended_leg_gets_more_time,
    a_changed_limit_is_not_taken_over,
    images_are_given_back_when_it_is_settled,
    an_alert_is_told_again,
    a_leg_in_flight_can_be_reconciled,
)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_a_bug_in_the_ledger_is_caught(bug: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """By the model, or by a check of the database."""
    bug(monkeypatch)
    with pytest.raises((AssertionError, StoreUnavailable)):
        run(file, 200, phases=(Phase.generate,))
