"""The tree against one that is written down straight from RFC 6962, section 2.1."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyguard.audit.merkle import (
    EMPTY,
    MerkleTree,
    consistency_ranges,
    inclusion_ranges,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)

SIZES = range(71)
ENTRIES = [f"entry {i}".encode() for i in SIZES]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
# Roots over the first inputs of the test vectors that Certificate Transparency logs share.
INPUTS = [bytes.fromhex(h) for h in ("", "00", "10", "2021", "3031", "40414243")]
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
}


def split(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def mth(d: list[bytes]) -> bytes:
    if not d:
        return sha256(b"").digest()
    if len(d) == 1:
        return sha256(b"\x00" + d[0]).digest()
    k = split(len(d))
    return sha256(b"\x01" + mth(d[:k]) + mth(d[k:])).digest()


def path(m: int, d: list[bytes]) -> list[bytes]:
    if len(d) == 1:
        return []
    k = split(len(d))
    return [*path(m, d[:k]), mth(d[k:])] if m < k else [*path(m - k, d[k:]), mth(d[:k])]


def subproof(m: int, d: list[bytes], whole: bool) -> list[bytes]:
    if m == len(d):
        return [] if whole else [mth(d)]
    k = split(len(d))
    if m <= k:
        return [*subproof(m, d[:k], whole), mth(d[k:])]
    return [*subproof(m - k, d[k:], False), mth(d[:k])]


def inclusion(index: int, size: int) -> list[bytes]:
    return [root_of(LEAVES[a:b]) for a, b in inclusion_ranges(index, size)]


def consistency(old: int, new: int) -> list[bytes]:
    return [root_of(LEAVES[a:b]) for a, b in consistency_ranges(old, new)]


def root(size: int) -> bytes:
    return root_of(LEAVES[:size])


@pytest.mark.parametrize("size", ROOTS)
def test_roots_are_those_of_the_known_vectors(size: int) -> None:
    assert root_of(leaf_hash(entry) for entry in INPUTS[:size]).hex() == ROOTS[size]


def test_the_root_of_every_size_is_the_references() -> None:
    assert [root(n) for n in SIZES] == [mth(ENTRIES[:n]) for n in SIZES]
    assert root(0) == EMPTY


@given(st.integers(0, 70), st.integers(0, 70))
def test_a_tree_grows_on_from_its_frontier(size: int, more: int) -> None:
    first = MerkleTree()
    for leaf in LEAVES[: min(size, more)]:
        first.append(leaf)
    grown = MerkleTree(first.size, first.frontier())
    for leaf in LEAVES[min(size, more) : max(size, more)]:
        grown.append(leaf)
    assert (grown.size, grown.root()) == (max(size, more), root(max(size, more)))


def test_a_frontier_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="no frontier"):
        MerkleTree(3, bytes(32))


def test_every_leaf_of_every_size_has_the_references_path_and_it_verifies() -> None:
    for size in SIZES:
        for index in range(size):
            proof = inclusion(index, size)
            assert proof == path(index, ENTRIES[:size])
            assert verify_inclusion(LEAVES[index], index, size, proof, root(size))


def test_every_older_size_has_the_references_proof_and_it_verifies() -> None:
    for new in SIZES:
        for old in range(1, new + 1):
            proof = consistency(old, new)
            assert proof == subproof(old, ENTRIES[:new], True)
            assert verify_consistency(old, new, root(old), root(new), proof)


places = st.integers(1, 70).flatmap(lambda n: st.tuples(st.integers(0, n - 1), st.just(n)))


@given(places, st.data())
def test_no_other_leaf_place_root_or_path_passes_for_an_inclusion(place: tuple[int, int], data: st.DataObject) -> None:
    index, size = place
    proof, expected = inclusion(index, size), root(size)
    other = data.draw(st.integers(0, size).filter(lambda i: i != index))
    assert not verify_inclusion(LEAVES[other], index, size, proof, expected)
    assert not verify_inclusion(LEAVES[index], other, size, proof, expected)
    assert not verify_inclusion(LEAVES[index], index, size, proof, root(size - 1))
    assert not verify_inclusion(LEAVES[index], index, size, [*proof, EMPTY], expected)
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        broken = [*proof[:at], bytes(32), *proof[at + 1 :]]
        assert not verify_inclusion(LEAVES[index], index, size, broken, expected)
        assert not verify_inclusion(LEAVES[index], index, size, proof[:-1], expected)


@given(places, st.data())
def test_no_other_root_or_path_passes_for_a_consistency(place: tuple[int, int], data: st.DataObject) -> None:
    old, new = place[0] + 1, place[1]
    proof = consistency(old, new)
    wrong = root_of([*LEAVES[: old - 1], bytes(32)])
    assert not verify_consistency(old, new, wrong, root(new), proof)
    assert not verify_consistency(old, new, root(old), root_of(reversed(LEAVES[: new + 1])), proof)
    assert not verify_consistency(old, new, root(old), root(new), [*proof, EMPTY])
    if proof:
        at = data.draw(st.integers(0, len(proof) - 1))
        assert not verify_consistency(old, new, root(old), root(new), [*proof[:at], bytes(32), *proof[at + 1 :]])


def test_impossible_places_are_refused() -> None:
    for index, size in ((0, 0), (3, 3), (-1, 3)):
        with pytest.raises(ValueError, match="no such leaf"):
            inclusion_ranges(index, size)
        assert not verify_inclusion(LEAVES[0], index, size, [], root(1))
    for old, new in ((0, 3), (4, 3)):
        with pytest.raises(ValueError, match="older tree"):
            consistency_ranges(old, new)
        assert not verify_consistency(old, new, root(1), root(3), [])
