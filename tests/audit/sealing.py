"""What the tests of the sealed record start from."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from store.books import NOW, VAULT, event

from policyguard.audit.private import Vault
from policyguard.audit.seal import seal
from policyguard.audit.verify import Report, verify
from policyguard.steps import Record
from policyguard.store import Store

DAYS = timedelta(days=1)


@dataclass(frozen=True)
class Sealed:
    """A store and its file."""

    path: Path
    store: Store

    def write(self, *names: str, **changes: Any) -> None:
        values = {"outcome": "deny", "review_id": "rev_1", "leg_id": "leg_1", **changes}
        events = tuple(event("request.decided", name, decision_id=name, **values) for name in names)
        self.store.perform(Record(events), NOW)

    def seal(self, now: datetime = NOW, vault: Vault = VAULT, most: int | None = None) -> int:
        return seal(self.store, vault, now, most=most)

    def verify(self, now: datetime = NOW, vault: Vault = VAULT, **options: Any) -> Report:
        return verify(self.store, vault, now, **options)

    def found(self, **options: Any) -> list[tuple[str, int | None]]:
        """What is wrong with which row."""
        return [(finding.what, finding.seq) for finding in self.verify(**options).findings]

    def execute(self, *statements: str) -> None:
        """Behind the store's back."""
        connection = sqlite3.connect(self.path)
        with connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()


def written(sealed: Sealed, count: int = 9, batch: int = 3) -> Sealed:
    """A record of `count` rows under a checkpoint for every `batch` of them."""
    for i in range(0, count, batch):
        sealed.write(*(f"dec_{n}" for n in range(i, min(i + batch, count))))
        sealed.seal()
    return sealed
