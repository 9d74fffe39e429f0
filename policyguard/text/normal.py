"""Unicode normalisation in linear time: the only place of the package that calls `unicodedata.normalize`.

It sorts the marks on one letter by insertion, so a long run of marks takes the square of its length. The Stream-Safe
Text Format of Unicode (UAX #15, section 13) allows runs of 30 at most; no language writes as many.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Literal

MAX_MARKS = 30  # on one letter; what is beyond is left out

NormalForm = Literal["NFC", "NFD", "NFKC", "NFKD"]


def normalize(form: NormalForm, text: str) -> str:
    """`text` in a normalisation form. Of a run of marks the first `MAX_MARKS` stay. Never raises."""
    return unicodedata.normalize(form, without_heaps(text))


def without_heaps(text: str) -> str:
    """`text` itself, unless more than `MAX_MARKS` marks stand on one letter somewhere."""
    if text.isascii():
        return text
    marks = {char for char in set(text) if _is_mark(char)}
    if not marks:
        return text
    kept: list[str] = []
    run = 0
    for char in text:
        run = run + 1 if char in marks else 0
        if run <= MAX_MARKS:
            kept.append(char)
    return text if len(kept) == len(text) else "".join(kept)


@lru_cache(maxsize=4096)
def _is_mark(char: str) -> bool:
    """Whether it joins what stands before it, once it is decomposed: some marks are no marks before that."""
    return not char.isascii() and unicodedata.combining(unicodedata.normalize("NFKD", char)[0]) > 0
