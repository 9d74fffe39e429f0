"""Proofs and checkpoints as JSON: what leaves the database, and how anybody checks it without the database.

A proof has the row, its leaf, the audit path to a signed checkpoint and, where it was asked for, the path that shows
that an older checkpoint is the beginning of the newer one. All it takes to check one is the public key.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from policyguard.audit.merkle import (
    Range,
    Tree,
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
    tree = Tree()
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

    Raises `ConfigError` for what is no proof.
    """
    try:
        return list(_problems(proof, key))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ConfigError("this is no proof of policyguard, or a part of it is missing") from error


def _problems(proof: Mapping[str, Any], key: str | None) -> Iterator[str]:
    if proof["kind"] != PROOF:
        raise ValueError
    checkpoint = read_checkpoint(proof["checkpoint"])
    if not _is_signed_by(checkpoint, key or proof["checkpoint"]["public_key"]):
        yield "the checkpoint is not signed by this key"
    row = [proof["row"][name] for name in ROW]
    leaf = leaf_hash(data_of(row[0], row[-1], digest_of(row)))
    path = [bytes.fromhex(node) for node in proof["path"]]
    if not verify_inclusion(leaf, proof["leaf"], checkpoint.size, path, checkpoint.root):
        yield "the row is not in the checkpoint, or was altered"
    if "since" in proof:
        yield from _since_problems(proof["since"], checkpoint, key)


def _since_problems(since: Mapping[str, Any], newest: Checkpoint, key: str | None) -> Iterator[str]:
    older = read_checkpoint(since["checkpoint"])
    if not _is_signed_by(older, key or since["checkpoint"]["public_key"]):
        yield "the older checkpoint is not signed by this key"
    path = [bytes.fromhex(node) for node in since["path"]]
    if not verify_consistency(older.size, newest.size, older.root, newest.root, path):
        yield "the older checkpoint is not the beginning of the newer one"


def _is_signed_by(checkpoint: Checkpoint, key: str) -> bool:
    return verify_signature(_key(key), checkpoint.signature, text_of(checkpoint))


def _key(text: str) -> bytes:
    return base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)


def read_checkpoint(document: Mapping[str, Any]) -> Checkpoint:
    return Checkpoint(
        int(document["size"]),
        bytes.fromhex(document["root"]),
        int(document["previous"]),
        datetime.fromisoformat(document["at"]),
        str(document["key_id"]),
        base64.b64decode(document["signature"], validate=True),
    )


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
                yield read_checkpoint(inner)
            except (KeyError, TypeError, ValueError) as error:
                raise ConfigError(f"`{file}` has a checkpoint with a part missing") from error


def _json(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except ValueError:
        return None  # half a line, from a writer that was stopped
