"""Verification: leaves again from rows, roots again from leaves, every signature, and what is said row by row.

Whoever changed the database without the key file is found: a bit that was flipped, a row that was removed, added or
put elsewhere, a leaf, a checkpoint. A record that was set back as a whole to an older state looks like that older
record; against it there are checkpoints that were published before.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from policyguard.audit.merkle import MerkleTree, leaf_hash
from policyguard.audit.private import Vault
from policyguard.audit.seal import data_of, digest_of, is_signed, mac_of
from policyguard.errors import StoreUnavailable
from policyguard.store import Store
from policyguard.store.db.sql import moment, us
from policyguard.store.seals import LEAF, Checkpoint

Progress = Callable[[int, int], None]  # leaves done, of how many

BATCH = 2_000
MOST_FINDINGS = 1_000  # are kept; the others are counted
_FIRST_SEQ = -(2**63)
_ROW = len(LEAF)  # where the row begins behind its leaf


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One thing that is not as it was sealed. `what` is one word for programs; `seq` is the row's number."""

    what: str
    message: str
    seq: int | None = None
    event_id: str | None = None
    leaf: int | None = None


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What verification saw: of `sealed` leaves `rows` have their row, `removed` lost it by retention, after its time.

    `unsealed` rows come behind and are not covered; of the findings, `more` are only counted.
    """

    sealed: int
    rows: int
    removed: int
    unsealed: int
    checkpoints: int
    newest: Checkpoint | None
    findings: tuple[Discrepancy, ...]
    more: int = 0

    @property
    def clean(self) -> bool:
        return not self.findings


def verify(
    store: Store,
    vault: Vault,
    now: datetime,
    *,
    published: Mapping[int, bytes] | None = None,
    progress: Progress | None = None,
) -> VerificationReport:
    """Go through the whole sealed record. `published` are roots by size that were known before."""
    return _Verification(store, vault, now, published or {}).run(progress or (lambda done, total: None))


class _Verification:
    """One walk over the leaves, with a tree that grows beside it."""

    def __init__(self, store: Store, vault: Vault, now: datetime, published: Mapping[int, bytes]) -> None:
        self._seals, self._vault, self._now_us = store.seals, vault, us(now)
        self._published = published
        self._tree = MerkleTree()
        self._findings: list[Discrepancy] = []
        self._more = self._rows = self._removed = self._last_seq = 0
        self._checkpoints = self._previous = 0

    def run(self, progress: Progress) -> VerificationReport:
        newest, count = self._seals.extent()
        size = newest.size if newest else 0
        for start in range(0, size, BATCH):
            stop = min(start + BATCH, size)
            self._walk(start, stop, self._expected(start, stop))
            progress(stop, size)
        self._beyond(size, count)
        self._without_leaf(size)
        return VerificationReport(
            sealed=size,
            rows=self._rows,
            removed=self._removed,
            unsealed=self._seals.count_after(self._last_seq),
            checkpoints=self._checkpoints,
            newest=newest,
            findings=tuple(self._findings),
            more=self._more,
        )

    def _found(self, what: str, message: str, **place: Any) -> None:
        if len(self._findings) < MOST_FINDINGS:
            self._findings.append(Discrepancy(what, message, **place))
        else:
            self._more += 1

    # ---- checkpoints --------------------------------------------------------------------------------------------

    def _expected(self, start: int, stop: int) -> dict[int, list[Checkpoint | bytes]]:
        """What has to be looked at when the tree has grown to a size."""
        expected: dict[int, list[Checkpoint | bytes]] = {}
        for size, root in self._published.items():
            expected.setdefault(size, []).append(root)
        for checkpoint in self._seals.checkpoints(start, stop):
            self._chain(checkpoint)
            expected.setdefault(checkpoint.size, []).append(checkpoint)
        return expected

    def _chain(self, checkpoint: Checkpoint) -> None:
        """Each is signed, and names the one before."""
        if not is_signed(checkpoint, self._vault):
            message = f"the checkpoint over {checkpoint.size} rows is not signed by a key of the key file"
            self._found("checkpoint_altered", message)
        elif checkpoint.previous != self._previous:
            self._found("checkpoint_missing", f"the checkpoint over {checkpoint.previous} rows is not there")
        self._previous = checkpoint.size
        self._checkpoints += 1

    def _reached(self, expected: Sequence[Checkpoint | bytes]) -> None:
        for there in expected:
            if isinstance(there, bytes):
                if there != self._tree.root():
                    message = (
                        f"the first {self._tree.size} rows are others than those of the published checkpoint: rows were"
                        " lost or changed, and others written in their place"
                    )
                    self._found("replaced", message)
            else:
                self._compare(there)

    def _compare(self, checkpoint: Checkpoint) -> None:
        if self._tree.root() == checkpoint.root:
            if self._tree.frontier() != checkpoint.frontier:
                self._found(
                    "checkpoint_altered", f"the frontier of the checkpoint over {checkpoint.size} rows is another"
                )
            return
        message = f"rows {checkpoint.previous + 1} to {checkpoint.size} do not give the root that was signed"
        self._found("root", message)
        self._go_on_from(checkpoint)

    def _go_on_from(self, checkpoint: Checkpoint) -> None:
        """What was signed is the ground for what comes after, so that one change is not told again and again."""
        try:
            signed = MerkleTree(checkpoint.size, checkpoint.frontier)
        except ValueError:
            return
        if signed.root() == checkpoint.root and is_signed(checkpoint, self._vault):
            self._tree = signed

    # ---- leaves and rows ----------------------------------------------------------------------------------------

    def _walk(self, start: int, stop: int, expected: Mapping[int, list[Checkpoint | bytes]]) -> None:
        for row in self._read(start, stop):
            if row[0] != self._tree.size:
                self._gap(row[0], expected)
            self._grow(self._leaf(row), expected)
        self._gap(stop, expected)

    def _grow(self, leaf: bytes, expected: Mapping[int, list[Checkpoint | bytes]]) -> None:
        tree = self._tree
        tree.append(leaf)
        if tree.size in expected:
            self._reached(expected[tree.size])

    def _gap(self, until: int, expected: Mapping[int, list[Checkpoint | bytes]]) -> None:
        while self._tree.size < until:
            self._found("leaf_missing", f"leaf {self._tree.size} is gone", leaf=self._tree.size)
            self._grow(bytes(32), expected)

    def _read(self, start: int, stop: int) -> Iterator[Sequence[Any]]:
        """Leaves with their rows. Where one cannot even be read, it is looked for by halves."""
        try:
            yield from self._seals.sealed(start, stop)
            return
        except StoreUnavailable:
            if stop - start == 1:
                for leaf in self._seals.leaves(start, stop):  # raises where it is the store that cannot be read
                    self._found("altered", f"row {leaf.seq} cannot be read", seq=leaf.seq, leaf=start)
                    yield (*leaf, None)
                return
        middle = (start + stop) // 2
        yield from self._read(start, middle)
        yield from self._read(middle, stop)

    def _leaf(self, row: Sequence[Any]) -> bytes:
        """The hash of a leaf, after a look at the leaf and at its row."""
        leaf, seq, delete_after_us, digest, mac = row[:_ROW]
        try:
            data = data_of(seq, delete_after_us, digest)
        except (struct.error, TypeError):
            self._found("leaf_altered", f"leaf {leaf} was altered", leaf=leaf)
            return bytes(32)
        if mac_of(leaf, data, self._vault) != mac:
            self._found("leaf_altered", f"leaf {leaf} of row {seq} was altered", seq=seq, leaf=leaf)
        else:
            self._last_seq = seq
        self._event(leaf, seq, delete_after_us, digest, row[_ROW:])
        return leaf_hash(data)

    def _event(self, leaf: int, seq: int, delete_after_us: int | None, digest: bytes, event: Sequence[Any]) -> None:
        if event[0] is not None:
            self._rows += 1
            if _digest(event) != digest:
                name = str(event[1])
                self._found("altered", f"row {seq} `{name}` was altered", seq=seq, event_id=name, leaf=leaf)
        elif len(event) > 1:
            if delete_after_us is not None and delete_after_us <= self._now_us:
                self._removed += 1
            else:
                until = "for ever" if delete_after_us is None else f"until {moment(delete_after_us):%Y-%m-%d %H:%M}"
                self._found("missing", f"row {seq} is gone; it is to be kept {until}", seq=seq, leaf=leaf)

    # ---- what should not be there -------------------------------------------------------------------------------

    def _beyond(self, size: int, count: int) -> None:
        for known in sorted(self._published):
            if known > size:
                message = (
                    f"the record is older than what was published: a checkpoint covers {known} rows, and only {size}"
                    " are sealed; a backup or a standby that lagged may have taken its place"
                )
                self._found("cut", message)
        if count > size:
            self._found("leaf_added", f"leaves {size} to {count - 1} are covered by no checkpoint", leaf=size)

    def _without_leaf(self, size: int) -> None:
        after = _FIRST_SEQ
        while rows := self._seals.without_leaf(after, self._last_seq, size, BATCH):
            for row in rows:
                name = str(row.id)
                self._found("added", f"row {row.seq} `{name}` was added among sealed rows", seq=row.seq, event_id=name)
            after = rows[-1].seq


def _digest(event: Sequence[Any]) -> bytes | None:
    try:
        return digest_of(event)
    except TypeError:  # a value of a kind that no row has
        return None
