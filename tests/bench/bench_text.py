"""What reading a prompt costs: short plain ones, each disguise, and the longest there can be of each kind.

Run it: `python tests/bench/bench_text.py [FILE.jsonl ...]`. Files are prompts of your own, one JSON object with
`text` in each line: it counts those that would be taken for hidden. Exits 1 where a figure is beyond what is never
acceptable.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from time import process_time
from timeit import repeat

sys.path.insert(0, str(Path(__file__).parents[1]))

from text.variants import SILENT, VARIANTS

from policyguard.sandbox.prompts import demo_prompts
from policyguard.text import MAX_CHARS, read

PLAIN_US, LONGEST_MS = 100.0, 250.0
PIECES = ("a cat ", "a.", "%61", "&#97;", "a\u200b", "\u202ea", "a\u0334", "а", "A1", "QUJD", "\U0001d400", "é")


def _micros(text: str) -> float:
    return min(repeat(lambda: read(text), number=200, repeat=5)) / 200 * 1e6


def _longest() -> float:
    worst = 0.0
    for piece in PIECES:
        text = (piece * MAX_CHARS)[:MAX_CHARS]
        millis = min(repeat(lambda text=text: read(text), number=1, repeat=3)) * 1e3
        worst = max(worst, millis)
        print(f"  {MAX_CHARS:,} characters of {piece!a:14} {millis:8.1f} ms")
    return worst


def _files(names: list[str]) -> None:
    for name in names:
        texts = [json.loads(line)["text"] for line in Path(name).read_text(encoding="utf-8").splitlines() if line]
        started = process_time()
        found = [read(text) for text in texts]
        micros = (process_time() - started) / len(texts) * 1e6
        hidden = sum(reading.hidden for reading in found)
        twice = sum(reading.text != text for reading, text in zip(found, texts, strict=True))
        print(
            f"  {name}: {hidden} of {len(texts):,} hidden, {twice / len(texts):.1%} asked twice, {micros:.1f} us each"
        )


def main() -> int:
    """Print the figures."""
    texts = [prompt.text for prompt in demo_prompts()]
    plain = sum(map(_micros, texts)) / len(texts)
    print(f"a prompt of the demo: {plain:.1f} us (never over {PLAIN_US:g})")
    for how, change in {**VARIANTS, **SILENT}.items():
        print(f"  {how:22} {_micros(change(texts[0])):8.1f} us")
    worst = _longest()
    print(f"the longest: {worst:.1f} ms (never over {LONGEST_MS:g})")
    _files(sys.argv[1:])
    return int(plain > PLAIN_US or worst > LONGEST_MS)


if __name__ == "__main__":
    sys.exit(main())
