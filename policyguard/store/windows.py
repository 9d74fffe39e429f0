"""Budget windows: money is taken from them for a leg, and moves in them when the leg ends.

A group takes what all its legs need in one statement, each window once, whatever their number: it has room for every
one of them, or nothing is taken and each asks alone. What one leg would have seen after its own turn is counted from
the balances that come back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from operator import attrgetter, itemgetter
from typing import Any

from policyguard.flow.steps import Charge
from policyguard.store import alerts
from policyguard.store.alerts import WindowRow
from policyguard.store.db.group import Rejected
from policyguard.store.db.sql import Params, Query, Rows, Sql, SQLSteps, as_rows, us

WindowKey = tuple[str, int]  # key and local start of a window, which name it

_us = lru_cache(maxsize=1024)(us)  # the same few starts and ends, again and again

_CHARGE = (
    "key TEXT, starts_us BIGINT, ends_us BIGINT, budget_id TEXT, unit TEXT, mode TEXT, limit_amount BIGINT,"
    " amount BIGINT, alert_at TEXT, opens_us BIGINT"
)
# All or nothing: nothing is taken, and no row returned, where one of the windows has no room, where a leg exists
# already, where legs have run out, or where a breaker is not closed. Rows are written, and on PostgreSQL locked, in
# the order of `:charges`, which is that of keys.
_TAKE = Sql(
    """
    INSERT INTO budget_windows
      (key, starts_us, ends_us, budget_id, unit, mode, limit_amount, reserved, spent, alert_at, alerted, opens_us)
    WITH charge AS (SELECT * FROM ROWS(charges: {charge}) AS c)
    SELECT key, starts_us, ends_us, budget_id, unit, mode, limit_amount, amount, 0, alert_at, 0, opens_us FROM charge
    WHERE NOT EXISTS (
        SELECT 1 FROM charge AS c LEFT JOIN budget_windows AS w ON w.key = c.key AND w.starts_us = c.starts_us
        WHERE c.mode <> 'shadow' AND COALESCE(w.spent + w.reserved, 0) + c.amount > c.limit_amount)
      AND NOT EXISTS (SELECT 1 FROM legs WHERE leg_id IN (SELECT leg_id FROM ROWS(legs: leg_id TEXT) AS l))
      AND NOT EXISTS (SELECT 1 FROM legs WHERE state IN ('held', 'sent') AND expires_us <= :due)
      AND NOT EXISTS (
        SELECT 1 FROM breakers WHERE open_until_us IS NOT NULL
          AND upstream IN (SELECT upstream FROM ROWS(legs: upstream TEXT) AS u))
    ON CONFLICT (key, starts_us) DO UPDATE SET
      reserved = budget_windows.reserved + excluded.reserved,
      limit_amount = excluded.limit_amount, mode = excluded.mode, ends_us = excluded.ends_us,
      alert_at = excluded.alert_at
    WHERE excluded.mode = 'shadow'
      OR budget_windows.spent + budget_windows.reserved + excluded.reserved <= excluded.limit_amount
    RETURNING {columns}
    """.replace("{charge}", _CHARGE).replace("{columns}", alerts.COLUMNS)
)


def in_order(charges: Iterable[Charge]) -> list[Charge]:
    """By key: whoever takes several windows takes them in this order."""
    return sorted(charges, key=attrgetter("key"))


def charge_rows(charges: Iterable[Charge]) -> list[dict[str, Any]]:
    """Charges, given in order, as `take` wants them."""
    return [
        {
            "key": charge.key,
            "starts_us": _us(charge.local),
            "opens_us": _us(charge.starts),
            "ends_us": _us(charge.ends) if charge.ends else None,
            "budget_id": charge.budget_id,
            "unit": charge.unit,
            "mode": charge.mode,
            "limit_amount": charge.limit,
            "amount": charge.amount,
            "alert_at": alerts.per_cents(charge),
        }
        for charge in charges
    ]


def take(values: Sequence[Params]) -> SQLSteps[Sequence[Rows]]:
    """Take `charges` for `leg_id`, all or none, making windows as needed; each answers the windows as they are then.

    `due` and `upstream` are those that `ledger.reserve` looks at. Empty where nothing was taken.
    """
    total = _total(values) if len(values) > 1 else None
    if total is not None:
        (rows,) = yield [_ask(total, values)]
        if rows:
            return _in_turn(values, total, rows)
    answers: list[Rows] = []
    for one in values:
        (rows,) = yield [_ask(one["charges"], [one])]
        answers.append(_in_turn([one], one["charges"], rows)[0] if rows else [])
    return answers


def _ask(charges: Sequence[Params], values: Sequence[Params]) -> Query:
    legs = as_rows([{"leg_id": one["leg_id"], "upstream": one["upstream"]} for one in values])
    return Query(_TAKE, {"charges": as_rows(charges), "legs": legs, "due": max(one["due"] for one in values)})


_terms = itemgetter("ends_us", "budget_id", "unit", "mode", "limit_amount", "alert_at")


def _total(values: Sequence[Params]) -> list[Params] | None:
    """The charges of all, each window once; None where they do not agree on one, or say the same leg twice."""
    if len({one["leg_id"] for one in values}) < len(values):
        return None
    total: dict[WindowKey, dict[str, Any]] = {}
    for one in values:
        for charge in one["charges"]:
            place = charge["key"], charge["starts_us"]
            known = total.get(place)
            if known is None:
                total[place] = dict(charge)
            elif _terms(known) == _terms(charge):
                known["amount"] += charge["amount"]
            else:
                return None
    return [total[place] for place in sorted(total)]


def _in_turn(values: Sequence[Params], total: Sequence[Params], rows: Rows) -> list[Rows]:
    """What each would have seen, had they come one after another."""
    windows = {(row[0], row[1]): WindowRow(*row) for row in rows}
    reserved = {(c["key"], c["starts_us"]): -c["amount"] for c in total}
    if windows.keys() != reserved.keys():  # else it could not be found again when the leg ends
        raise Rejected("the store cannot answer: it did not take what was asked for")
    for place, window in windows.items():
        reserved[place] += window.reserved
    answers: list[Rows] = []
    for one in values:
        seen = []
        for place, charge in zip(_places(one), one["charges"], strict=True):
            reserved[place] += charge["amount"]
            seen.append(windows[place].at(windows[place].spent, reserved[place]))
        answers.append(seen)
    return answers


def _places(one: Params) -> list[WindowKey]:
    return [(charge["key"], charge["starts_us"]) for charge in one["charges"]]


# ---- the end ----------------------------------------------------------------------------------------------

_ENDED = "ROWS(legs: leg_id TEXT, live BIGINT, usd BIGINT, images BIGINT)"
_MOVE = Sql(
    """
    UPDATE budget_windows SET
      reserved = budget_windows.reserved - m.live,
      spent = budget_windows.spent + CASE WHEN budget_windows.unit = 'usd' THEN m.usd ELSE m.images END
    FROM (
        SELECT c.key, c.starts_us, CAST(SUM(c.amount * v.live) AS BIGINT) AS live, CAST(SUM(v.usd) AS BIGINT) AS usd,
          CAST(SUM(c.amount * v.images) AS BIGINT) AS images
        FROM {ended} AS v JOIN leg_charges AS c ON c.leg_id = v.leg_id GROUP BY c.key, c.starts_us) AS m
    WHERE budget_windows.key = m.key AND budget_windows.starts_us = m.starts_us
    RETURNING {columns}
    """.replace("{ended}", _ENDED).replace(
        "{columns}", ", ".join(f"budget_windows.{name}" for name in WindowRow._fields)
    )
)
_CHARGED = Sql(
    "SELECT c.leg_id, c.key, c.starts_us, c.amount FROM ROWS(legs: leg_id TEXT) AS v"
    " JOIN leg_charges AS c ON c.leg_id = v.leg_id ORDER BY c.key, c.starts_us"
)


def move(values: Sequence[Params]) -> SQLSteps[Sequence[Rows]]:
    """Move the money of ended legs; each answers its windows as they are after it.

    `usd` and `images` are what goes into spent, `live` is 1 where the money was still reserved, else 0.
    """
    legs = {"legs": as_rows(values)}
    rows, charged = yield [Query(_MOVE, legs), Query(_CHARGED, legs)]
    windows = {(row[0], row[1]): WindowRow(*row) for row in rows}
    if len(values) == 1:
        return [list(windows.values())]
    charges: defaultdict[str, list[tuple[WindowKey, int]]] = defaultdict(list)
    for leg_id, key, starts_us, amount in charged:
        charges[leg_id].append(((key, starts_us), amount))
    moves = [
        [(place, *_amounts(one, windows[place], amount)) for place, amount in charges[one["leg_id"]]] for one in values
    ]
    before = {place: [window.spent, window.reserved] for place, window in windows.items()}
    for place, spent, reserved in chain.from_iterable(moves):
        before[place][0] -= spent
        before[place][1] -= reserved
    return [[_moved(windows[place], before[place], *amounts) for place, *amounts in one] for one in moves]


def _amounts(one: Params, window: WindowRow, amount: int) -> tuple[int, int]:
    """What one leg adds to what is spent and to what is reserved."""
    return one["usd"] if window.unit == "usd" else amount * one["images"], -amount * one["live"]


def _moved(window: WindowRow, balance: list[int], spent: int, reserved: int) -> WindowRow:
    balance[0] += spent
    balance[1] += reserved
    return window.at(*balance)
