"""The store: budgets, legs, reviews, pauses and the record in one database, every method one transaction.

`Store` is what the others use, with the values that it gives. What an operation does stands in a module of its own; how
it is run, with whom and on which connection, in `db`.
"""

from __future__ import annotations

from policyguard.store.address import key_beside, key_path
from policyguard.store.cipher import Cipher, Sealed
from policyguard.store.proxy_keys import ProxyKey
from policyguard.store.reconcile import PresumedLeg
from policyguard.store.record import StoredEvent
from policyguard.store.reports import BudgetWindow, SpendRow
from policyguard.store.schema import SchemaStatus, migrate, status
from policyguard.store.spike import Spike
from policyguard.store.store import Store, open_store
from policyguard.store.subjects import Erased
from policyguard.store.upkeep import Swept
from policyguard.store.votes import ReviewConflict

__all__ = [
    "BudgetWindow",
    "Cipher",
    "Erased",
    "PresumedLeg",
    "ProxyKey",
    "ReviewConflict",
    "SchemaStatus",
    "Sealed",
    "SpendRow",
    "Spike",
    "Store",
    "StoredEvent",
    "Swept",
    "key_beside",
    "key_path",
    "migrate",
    "open_store",
    "status",
]
