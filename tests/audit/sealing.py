"""What the tests of the sealed record start from."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from databases import connect
from store.books import NOW, VAULT, event

from policyguard.audit.private import Vault
from policyguard.audit.seal import seal
from policyguard.audit.verify import VerificationReport, verify
from policyguard.flow.steps import Record
from policyguard.store import Store
from policyguard.store.seals import Checkpoint

DAYS = timedelta(days=1)


@dataclass(frozen=True)
class Sealed:
    """A store and its address."""

    url: str
    store: Store

    @property
    def path(self) -> Path:
        """The file, for tests of SQLite."""
        return Path(self.url.removeprefix("sqlite:///"))

    def write(self, *names: str, **changes: Any) -> None:
        values = {"outcome": "deny", "review_id": "rev_1", "leg_id": "leg_1", **changes}
        events = tuple(event("request.decided", name, decision_id=name, **values) for name in names)
        self.store.perform(Record(events), NOW)

    def seal(self, now: datetime = NOW, vault: Vault = VAULT, most: int | None = None) -> int:
        return seal(self.store, vault, now, most=most)

    def verify(self, now: datetime = NOW, vault: Vault = VAULT, **options: Any) -> VerificationReport:
        return verify(self.store, vault, now, **options)

    def checkpoints(self) -> list[Checkpoint]:
        return self.store.seals.checkpoints(0, 10**9)

    def found(self, **options: Any) -> list[tuple[str, int | None]]:
        """What is wrong with which row."""
        return [(finding.what, finding.seq) for finding in self.verify(**options).findings]

    def execute(self, *statements: str) -> None:
        """Behind the store's back."""
        if self.url.startswith("postgres"):
            with connect(self.url) as beside:
                for statement in statements:
                    beside.execute(_for_postgres(statement))
            return
        connection = sqlite3.connect(self.path)
        with connection:
            for statement in statements:
                connection.execute(statement)
        connection.close()


def _for_postgres(statement: str) -> str:
    return re.sub(r"zeroblob\((.*?\)?)\)", r"decode(repeat('00', \1), 'hex')", statement).replace(
        "x'00'", "'\\x00'::bytea"
    )


def written(sealed: Sealed, count: int = 9, batch: int = 3) -> Sealed:
    """A record of `count` rows under a checkpoint for every `batch` of them."""
    for i in range(0, count, batch):
        sealed.write(*(f"dec_{n}" for n in range(i, min(i + batch, count))))
        sealed.seal()
    return sealed
