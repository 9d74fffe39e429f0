"""Proofs and checkpoints as JSON: what leaves the database, and how anybody checks it without the database.

A proof has the row, its leaf, the audit path to a signed checkpoint and, where it was asked for, the path that shows
that an older checkpoint is the beginning of the newer one. All it takes to check one is the public key.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError, field_validator

from policyguard.audit.merkle import (
    HASH_BYTES,
    MerkleTree,
    Range,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from policyguard.audit.private import Vault, verify_signature
from policyguard.audit.seal import data_of, digest_of, is_signed, text_of
from policyguard.errors import ConfigError
from policyguard.store import Store
from policyguard.store.seals import ROW, Checkpoint, Seals

BATCH = 5_000
KEY_PREFIX = "ed25519:"
PROOF, CHECKPOINT = "policyguard proof 1", "policyguard checkpoint 1"


class NoProof(ConfigError):
    """What was given is no proof."""


# ---- its form ---------------------------------------------------------------------------------------------


def _hash(value: Any) -> bytes:
    if isinstance(value, str) and len(value) == 2 * HASH_BYTES and value.isalnum():
        return bytes.fromhex(value)
    raise ValueError("no hash in hexadecimal")


def _signature(value: Any) -> bytes:
    if isinstance(value, str):
        return base64.b64decode(value, validate=True)
    raise ValueError("no signature in base64")


def _aware(value: Any) -> datetime:
    if isinstance(value, str) and (at := datetime.fromisoformat(value)).tzinfo is not None:
        return at
    raise ValueError("no time with a zone")


_Hash = Annotated[bytes, PlainValidator(_hash)]
_Natural = Annotated[int, Field(ge=0, lt=2**63)]
_Column = str | int | float | bool | None


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True)


class KeptCheckpoint(_Strict):
    """A checkpoint as it is kept elsewhere."""

    kind: Literal["policyguard checkpoint 1"]
    size: _Natural
    root: _Hash
    previous: _Natural
    at: Annotated[datetime, PlainValidator(_aware)]
    key_id: str
    signature: Annotated[bytes, PlainValidator(_signature)]
    public_key: str | None = None

    def value(self) -> Checkpoint:
        return Checkpoint(self.size, self.root, self.previous, self.at, self.key_id, self.signature)


class Since(_Strict):
    checkpoint: KeptCheckpoint
    path: list[_Hash]


class Proof(_Strict):
    kind: Literal["policyguard proof 1"]
    row: dict[str, _Column]
    leaf: _Natural
    path: list[_Hash]
    checkpoint: KeptCheckpoint
    since: Since | None = None

    @field_validator("row")
    @classmethod
    def _whole(cls, row: dict[str, _Column]) -> dict[str, _Column]:
        if not row.keys() >= set(ROW):
            raise ValueError("a column is missing")
        return row


# ---- making one -------------------------------------------------------------------------------------------


def prove(store: Store, vault: Vault, event_id: str, *, since: int | None = None) -> dict[str, Any] | None:
    """That a row is in the newest checkpoint, and with `since` that the checkpoint of that size is its beginning.

    None where there is no such row, or it is not sealed yet. Reads every leaf once.
    """
    seals = store.seals
    leaf, checkpoint = seals.leaf_of(event_id), seals.newest()
    if leaf is None or checkpoint is None or leaf.leaf >= checkpoint.size:
        return None
    (row,) = seals.sealed(leaf.leaf, leaf.leaf + 1)
    proof = {
        "kind": PROOF,
        "row": dict(zip(ROW, row[-len(ROW) :], strict=True)),
        "leaf": leaf.leaf,
        "path": _path(seals, inclusion_ranges(leaf.leaf, checkpoint.size)),
        "checkpoint": document(checkpoint, vault),
    }
    if since is not None:
        proof["since"] = _since(seals, vault, since, checkpoint)
    return proof


def _since(seals: Seals, vault: Vault, size: int, newest: Checkpoint) -> dict[str, Any]:
    if not (found := seals.checkpoints(size - 1, size)):
        raise ConfigError(f"there is no checkpoint over {size} rows")
    (older,) = found
    path = _path(seals, consistency_ranges(older.size, newest.size))
    return {"checkpoint": document(older, vault), "path": path}


def _path(seals: Seals, ranges: Sequence[Range]) -> list[str]:
    return [_root(seals, *part).hex() for part in ranges]


def _root(seals: Seals, start: int, stop: int) -> bytes:
    tree = MerkleTree()
    for at in range(start, stop, BATCH):
        for row in seals.leaves(at, min(at + BATCH, stop)):
            tree.append(leaf_hash(data_of(row.seq, row.delete_after_us, row.digest)))
    return tree.root()


def document(checkpoint: Checkpoint, vault: Vault) -> dict[str, Any]:
    """A checkpoint for others to keep."""
    return {
        "kind": CHECKPOINT,
        "size": checkpoint.size,
        "root": checkpoint.root.hex(),
        "previous": checkpoint.previous,
        "at": checkpoint.at.isoformat(),
        "key_id": checkpoint.key_id,
        "signature": base64.b64encode(checkpoint.signature).decode(),
        "public_key": public_key(vault, checkpoint.key_id),
    }


def public_key(vault: Vault, key_id: str) -> str | None:
    """As text that can be handed on."""
    key = vault.public_key(key_id)
    return None if key is None else KEY_PREFIX + base64.b64encode(key).decode()


# ---- checking one -----------------------------------------------------------------------------------------


def check(proof: Mapping[str, Any], key: str | None = None) -> list[str]:
    """What is wrong with a proof; nothing where it holds. Without `key` the one is taken that the proof itself names.

    Raises `NoProof` for anything that is none.
    """
    return list(_problems(read_proof(proof), key))


def read_proof(document: Any) -> Proof:
    """Raises `NoProof`."""
    try:
        return Proof.model_validate(document)
    except ValidationError:
        raise NoProof("this is no proof of policyguard, or a part of it is missing") from None


def _problems(proof: Proof, key: str | None) -> Iterator[str]:
    checkpoint = proof.checkpoint.value()
    if not _is_signed_by(proof.checkpoint, key):
        yield "the checkpoint is not signed by this key"
    row = [proof.row[name] for name in ROW]
    if not verify_inclusion(_leaf_of(row), proof.leaf, checkpoint.size, proof.path, checkpoint.root):
        yield "the row is not in the checkpoint, or was altered"
    if proof.since is not None:
        yield from _since_problems(proof.since, checkpoint, key)


def _leaf_of(row: list[_Column]) -> bytes:
    seq, delete_after_us = row[0], row[-1]
    if type(seq) is not int or type(delete_after_us) not in (int, type(None)):
        raise NoProof("this is no proof of policyguard: its row has values of a kind that no row has")
    try:
        return leaf_hash(data_of(seq, delete_after_us, digest_of(row)))  # type: ignore[arg-type] # checked above
    except struct.error:  # beyond 64 bits
        raise NoProof("this is no proof of policyguard: its row has a number that no row has") from None


def _since_problems(since: Since, newest: Checkpoint, key: str | None) -> Iterator[str]:
    older = since.checkpoint.value()
    if not _is_signed_by(since.checkpoint, key):
        yield "the older checkpoint is not signed by this key"
    if not verify_consistency(older.size, newest.size, older.root, newest.root, since.path):
        yield "the older checkpoint is not the beginning of the newer one"


def _is_signed_by(checkpoint: KeptCheckpoint, key: str | None) -> bool:
    """By `key`, else by the key that the checkpoint names itself."""
    signer = checkpoint.public_key if key is None else key
    if signer is None:
        raise NoProof("the proof names no public key; give it with `--public-key`")
    try:
        public = base64.b64decode(signer.removeprefix(KEY_PREFIX), validate=True)
    except ValueError:
        public = b""  # nobody's key
    value = checkpoint.value()
    return verify_signature(public, value.signature, text_of(value))


# ---- checkpoints that were published ----------------------------------------------------------------------


def published(file: Path, vault: Vault) -> dict[int, bytes]:
    """Roots by size from a file: a checkpoint, a proof, or lines of an export or of `jobs run --checkpoints`.

    Raises `ConfigError` where the file has no checkpoint, or one that is not signed by a key of the key file.
    """
    found: dict[int, bytes] = {}
    for checkpoint in _checkpoints(file):
        if not is_signed(checkpoint, vault):
            raise ConfigError(f"`{file}`: the checkpoint over {checkpoint.size} rows is not signed by this key file")
        found[checkpoint.size] = checkpoint.root
    if not found:
        raise ConfigError(f"`{file}` has no checkpoint")
    return found


def _checkpoints(file: Path) -> Iterator[Checkpoint]:
    text = file.read_bytes()
    try:
        documents = [orjson.loads(text)]
    except ValueError:
        documents = [_json(line) for line in text.splitlines()]
    for each in documents:
        inner = each.get("checkpoint") or each.get("newest") or each if isinstance(each, dict) else None
        if isinstance(inner, dict) and inner.get("kind") == CHECKPOINT:
            try:
                yield KeptCheckpoint.model_validate(inner).value()
            except ValidationError:
                raise ConfigError(f"`{file}` has a checkpoint with a part missing, or of another kind") from None


def _json(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        return None  # half a line, from a writer that was stopped
