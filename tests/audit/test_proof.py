from __future__ import annotations

import contextlib
import copy
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from audit.sealing import Sealed, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store.books import VAULT

from policyguard.audit.private import Vault
from policyguard.audit.proof import NoProof, check, document, prove, public_key, published
from policyguard.errors import ConfigError

KEY = public_key(VAULT, VAULT.key_id)


def proof(record: Sealed, row: str = "dec_4", since: int | None = None) -> dict[str, Any]:
    made = prove(record.store, VAULT, f"request.decided:{row}", since=since)
    assert made is not None
    read: dict[str, Any] = json.loads(orjson.dumps(made))  # as it comes out of a file
    return read


def test_every_row_of_a_record_can_be_proven(record: Sealed) -> None:
    written(record, 9, 3)
    assert [check(proof(record, f"dec_{i}"), KEY) for i in range(9)] == [[]] * 9
    assert check(proof(record)) == []


def test_a_row_that_is_not_there_or_not_sealed_has_no_proof(record: Sealed) -> None:
    assert prove(record.store, VAULT, "request.decided:dec_0") is None
    written(record, 3, 3)
    record.write("dec_new")
    assert prove(record.store, VAULT, "request.decided:dec_new") is None
    assert prove(record.store, VAULT, "request.decided:nothing") is None


@pytest.mark.parametrize("since", [3, 6, 9])
def test_an_older_checkpoint_is_proven_to_be_the_beginning(record: Sealed, since: int) -> None:
    written(record, 9, 3)
    made = proof(record, since=since)
    assert check(made, KEY) == []
    made["since"]["checkpoint"]["root"] = "00" * 32
    assert check(made, KEY) == [
        "the older checkpoint is not signed by this key",
        "the older checkpoint is not the beginning of the newer one",
    ]


def test_a_size_without_a_checkpoint_is_said(record: Sealed) -> None:
    written(record, 9, 3)
    with pytest.raises(ConfigError, match="no checkpoint over 4 rows"):
        proof(record, since=4)


def test_another_key_does_not_pass(record: Sealed) -> None:
    written(record, 3, 3)
    stranger = public_key(Vault(b"x" * 32), Vault(b"x" * 32).key_id)
    assert check(proof(record, "dec_1"), stranger) == ["the checkpoint is not signed by this key"]


def leaves_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [path for key, inner in value.items() for path in leaves_of(inner, (*at, key))]
    if isinstance(value, list):
        return [path for i, inner in enumerate(value) for path in leaves_of(inner, (*at, i))]
    return [at]


def changed(value: Any) -> Any:
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str) and value:
        return value[:-1] + ("1" if value[-1] != "1" else "2")
    return "x"


def holds(made: dict[str, Any]) -> bool:
    try:
        return check(made, KEY) == []
    except NoProof:
        return False


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_is_changed_in_a_proof_it_does_not_hold(record: Sealed, data: st.DataObject) -> None:
    if not record.store.seals.extent()[1]:
        written(record, 9, 3)
    made = proof(record, since=3)
    places = [p for p in leaves_of(made) if p[-1] != "public_key" and p != ("since", "checkpoint", "kind")]
    at = data.draw(st.sampled_from([p for p in places if p != ("checkpoint", "kind")]))
    broken = copy.deepcopy(made)
    inner: Any = broken
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = changed(inner[at[-1]])
    assert not holds(broken)
    del inner[at[-1]]
    assert not holds(broken)


@pytest.mark.parametrize("value", [{}, {"kind": "something"}, {"kind": "policyguard proof 1"}])
def test_anything_else_is_no_proof(value: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="no proof"):
        check(value, KEY)


CONFUSED = (None, True, 0, -1, 3, 2**63, 1.5, 1e300, "", "x", "00", "é", [], ["x"], [None], {}, {"a": 1}, [[]])


@pytest.mark.parametrize("value", CONFUSED, ids=repr)
def test_a_value_of_any_other_kind_anywhere_never_passes_and_never_crashes(record: Sealed, value: Any) -> None:
    """Leaves and whole parts alike: the check answers that it does not hold, or that it is no proof."""
    written(record, 9, 3)
    made = proof(record, since=3)
    for at in [(), *branches_of(made), *leaves_of(made)]:
        if at[-1:] in [("public_key",), ("since",)]:
            continue  # of the proof's own word for the key nothing depends where one is given; what is older is extra
        broken: Any = replaced(made, at, value)
        if broken != made:
            assert not holds(broken), at


def test_a_key_of_another_kind_within_the_proof_is_no_signature(record: Sealed) -> None:
    written(record, 9, 3)
    for value in CONFUSED:
        broken = replaced(proof(record), ("checkpoint", "public_key"), value)
        with contextlib.suppress(NoProof):
            assert check(broken) == ["the checkpoint is not signed by this key"]


def branches_of(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, inner in items for path in [(*at, key), *branches_of(inner, (*at, key))]]


def replaced(made: Any, at: tuple[Any, ...], value: Any) -> Any:
    if not at:
        return value
    broken = copy.deepcopy(made)
    inner = broken
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    return broken


# ---- published checkpoints --------------------------------------------------------------------------------


def test_checkpoints_are_read_from_documents_proofs_and_lines(record: Sealed, tmp_path: Path) -> None:
    written(record, 6, 3)
    checkpoints = record.checkpoints()
    roots = {c.size: c.root for c in checkpoints}
    file = tmp_path / "kept.json"
    file.write_bytes(orjson.dumps(document(checkpoints[0], VAULT)))
    assert published(file, VAULT) == {3: roots[3]}
    file.write_bytes(orjson.dumps(proof(record), option=orjson.OPT_INDENT_2))
    assert published(file, VAULT) == {6: roots[6]}
    lines = [b'{"type": "request.decided"}', *(orjson.dumps(document(c, VAULT)) for c in checkpoints), b'{"half a li']
    file.write_bytes(b"\n".join(lines))
    assert published(file, VAULT) == roots


def test_a_file_without_a_checkpoint_or_with_a_forged_one_is_refused(record: Sealed, tmp_path: Path) -> None:
    written(record, 3, 3)
    file = tmp_path / "kept.json"
    file.write_bytes(b"[1, 2]")
    with pytest.raises(ConfigError, match="has no checkpoint"):
        published(file, VAULT)
    newest = record.store.seals.newest()
    assert newest is not None
    forged = {**document(newest, VAULT), "root": "00" * 32}
    file.write_bytes(orjson.dumps(forged))
    with pytest.raises(ConfigError, match="not signed by this key file"):
        published(file, VAULT)
    del forged["root"]
    file.write_bytes(orjson.dumps(forged))
    with pytest.raises(ConfigError, match="part missing"):
        published(file, VAULT)
