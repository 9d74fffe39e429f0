"""The sealer: gives every committed row its leaf, and signs a checkpoint over all leaves. Any process may run it.

A leaf commits to the row's number, to the time until which it is kept, and to a digest of all that it says. So the leaf
still proves what stood there when retention has removed the row, and that the row was not removed before its time.
Outside the guarantee: rows that are not sealed yet, and whoever has the key file.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any

import orjson

from policyguard.audit.merkle import MerkleTree, leaf_hash
from policyguard.audit.private import Vault, verify_signature
from policyguard.errors import PolicyguardError
from policyguard.store import Store
from policyguard.store.db.sql import us
from policyguard.store.seals import Checkpoint, Leaf, Unsealed

BATCH = 500  # rows under one checkpoint, so that nobody waits long for the writer
_LEAF = struct.Struct(">qq32s")
_KEPT_FOR_EVER = -1


class SealError(PolicyguardError):
    """The sealed part of the record is not what was signed. Nothing is sealed on top of it."""


def seal(store: Store, vault: Vault, now: datetime, *, most: int | None = None) -> int:
    """Seal the rows that are not sealed yet, `most` of them or all: how many. 0, too, while another process seals.

    Raises `SealError` where what is sealed already was altered.
    """
    holder, count = os.urandom(8).hex(), 0
    while most is None or count < most:
        unsealed = store.seals.unsealed(BATCH if most is None else min(BATCH, most - count))
        if not unsealed.rows and unsealed.last_seq is not None:
            break
        leaves, checkpoint = extend(unsealed, vault, now)
        if not store.seals.append(leaves, checkpoint, holder=holder, now=now):
            return count
        count += len(leaves)
    if count:
        store.seals.give_back(holder)
    return count


def extend(unsealed: Unsealed, vault: Vault, now: datetime) -> tuple[list[Leaf], Checkpoint]:
    """The next leaves, and the checkpoint over them and all before."""
    tree = _grown(unsealed, vault)
    previous, leaves = tree.size, []
    for row in unsealed.rows:
        seq, delete_after_us = row[0], row[-1]
        try:
            digest = digest_of(row)
            data = data_of(seq, delete_after_us, digest)
        except (TypeError, struct.error) as error:
            raise SealError(f"row {seq} has values of a kind that no row has, so it is not sealed") from error
        leaves.append(Leaf(tree.size, seq, delete_after_us, digest, mac_of(tree.size, data, vault)))
        tree.append(leaf_hash(data))
    unsigned = Checkpoint(tree.size, tree.root(), previous, now, vault.newest_id, b"", tree.frontier())
    return leaves, signed(unsigned, vault)


def _grown(unsealed: Unsealed, vault: Vault) -> MerkleTree:
    """The tree as it was signed last."""
    checkpoint = unsealed.checkpoint
    if checkpoint is None:
        return MerkleTree()
    try:
        tree = MerkleTree(checkpoint.size, checkpoint.frontier)
    except ValueError:
        tree = MerkleTree()
    if unsealed.last_seq is None or tree.root() != checkpoint.root or not is_signed(checkpoint, vault):
        raise SealError("the sealed record was altered, so nothing is sealed; run `policyguard audit verify`")
    return tree


# ---- a leaf -----------------------------------------------------------------------------------------------


def digest_of(row: Sequence[Any]) -> bytes:
    """Over every column of a row, `ROW` in its order: a JSON list, so that nothing can be shifted between columns."""
    return sha256(orjson.dumps(row)).digest()


def data_of(seq: int, delete_after_us: int | None, digest: bytes) -> bytes:
    """What a leaf says; its hash stands in the tree."""
    return _LEAF.pack(seq, _KEPT_FOR_EVER if delete_after_us is None else delete_after_us, digest)


def mac_of(leaf: int, data: bytes, vault: Vault) -> bytes:
    """What lets a single altered leaf be named; that something was altered the tree shows by itself."""
    return vault.mac(leaf.to_bytes(8) + data)


# ---- a checkpoint -----------------------------------------------------------------------------------------


def text_of(checkpoint: Checkpoint) -> bytes:
    """What is signed."""
    root = base64.b64encode(checkpoint.root).decode()
    lines = ("policyguard checkpoint 1", checkpoint.size, root, checkpoint.previous, us(checkpoint.at))
    return "".join(f"{line}\n" for line in (*lines, checkpoint.key_id)).encode()


def signed(checkpoint: Checkpoint, vault: Vault) -> Checkpoint:
    return replace(checkpoint, signature=vault.sign(text_of(checkpoint)))


def is_signed(checkpoint: Checkpoint, vault: Vault) -> bool:
    """By a key of the ring."""
    public = vault.public_key(checkpoint.key_id)
    return public is not None and verify_signature(public, checkpoint.signature, text_of(checkpoint))
