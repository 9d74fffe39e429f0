"""The Merkle tree of RFC 6962: a growing list of hashes with one root, and short proofs about it. Pure.

A tree grows from its frontier, the roots of its perfect subtrees from the left, so that one more leaf costs O(log n) at
most and two hashes on average. Proofs name ranges of leaves; whoever has the leaves gives the root of each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY = sha256(b"").digest()

Range = tuple[int, int]  # leaves [start, stop)


def leaf_hash(data: bytes) -> bytes:
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()


class MerkleTree:
    """A tree that grows at its right end. It holds the frontier alone, never its leaves."""

    __slots__ = ("_nodes", "size")

    def __init__(self, size: int = 0, frontier: bytes = b"") -> None:
        if len(frontier) != size.bit_count() * HASH_BYTES:
            raise ValueError("this is no frontier of a tree of that size")
        self.size = size
        self._nodes = [frontier[i : i + HASH_BYTES] for i in range(0, len(frontier), HASH_BYTES)]

    def append(self, leaf: bytes) -> None:
        """Add the hash of a leaf."""
        nodes, full = self._nodes, self.size
        while full & 1:
            leaf = sha256(b"\1" + nodes.pop() + leaf).digest()
            full >>= 1
        nodes.append(leaf)
        self.size += 1

    def frontier(self) -> bytes:
        return b"".join(self._nodes)

    def root(self) -> bytes:
        if not self._nodes:
            return EMPTY
        root = self._nodes[-1]
        for node in reversed(self._nodes[:-1]):
            root = node_hash(node, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root over these hashes of leaves."""
    tree = MerkleTree()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def _split(size: int) -> int:
    """The largest power of two below `size`: where a tree divides."""
    return 1 << ((size - 1).bit_length() - 1)


# ---- inclusion: this leaf is in that tree -----------------------------------------------------------------


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """Whose roots, in this order, prove that leaf `index` is in a tree of `size`."""
    if not 0 <= index < size:
        raise ValueError("there is no such leaf")
    ranges: list[Range] = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            ranges.append((middle, stop))
            stop = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Does the path lead from the leaf's hash to the root?"""
    if not 0 <= index < size:
        return False
    ranges = inclusion_ranges(index, size)
    if len(ranges) != len(path):
        return False
    for (start, _), sibling in zip(ranges, path, strict=True):
        leaf = node_hash(sibling, leaf) if start < index else node_hash(leaf, sibling)
    return leaf == root


# ---- consistency: this tree is the beginning of that one --------------------------------------------------


def consistency_ranges(old: int, new: int) -> list[Range]:
    """Whose roots, in this order, prove that the tree of `new` leaves begins with the tree of `old`."""
    if not 0 < old <= new:
        raise ValueError("the older tree is empty, or larger than the newer one")
    return _consistency(old, 0, new, whole=True)


def _consistency(old: int, start: int, stop: int, *, whole: bool) -> list[Range]:
    """`whole`: the old tree as such, whose root the reader knows, ends with this subtree."""
    if old == stop:
        return [] if whole else [(start, stop)]
    middle = start + _split(stop - start)
    if old <= middle:
        return [*_consistency(old, start, middle, whole=whole), (middle, stop)]
    return [*_consistency(old, middle, stop, whole=False), (start, middle)]


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes]) -> bool:
    """Do both roots follow from the path?"""
    if not 0 < old <= new:
        return False
    ranges = consistency_ranges(old, new)
    if len(ranges) != len(path):
        return False
    if old == new:
        return old_root == new_root
    known = dict(zip(ranges, path, strict=True))
    if old & (old - 1) == 0:  # then the older tree is a node of the newer one, and its root need not be told
        known[0, old] = old_root
    return _rebuilt(0, old, known) == old_root and _rebuilt(0, new, known) == new_root


def _rebuilt(start: int, stop: int, known: dict[Range, bytes]) -> bytes | None:
    """The root of a range, from the roots that the proof gives; None where they do not suffice."""
    if (start, stop) in known:
        return known[start, stop]
    if stop - start == 1:
        return None
    middle = start + _split(stop - start)
    left, right = _rebuilt(start, middle, known), _rebuilt(middle, stop, known)
    return None if left is None or right is None else node_hash(left, right)
