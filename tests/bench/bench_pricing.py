"""What pricing costs on the path of a request: microseconds for a ceiling and for an actual.

Run it: `python tests/bench/bench_pricing.py`. Exits 1 where a figure misses its aim.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from timeit import repeat

from policyguard.pricing import actual, ceiling
from policyguard.request import ImageRequest, InputImage, Size, Usage

ROUNDS = 20_000
AIM_US = 10.0
PROMPT = "a watercolour of a lighthouse at dusk, soft light, no people " * 5
IMAGE = InputImage(b"x", "image/png", size=Size(1024, 1024))


def microseconds(function: Callable[[], object]) -> float:
    return min(repeat(function, number=ROUNDS, repeat=5)) / ROUNDS * 1e6


def main() -> int:
    plain = ImageRequest(prompt=PROMPT, model="gpt-image-2", size="1024x1024", quality="high", n=2)
    edit = ImageRequest(
        prompt=PROMPT, operation="edit", model="gpt-image-2.5-flare", size="1536x1024", n=1, images=(IMAGE,) * 4
    )
    usage = Usage(input_text_tokens=70, output_image_tokens=14_048)
    cases = {
        "ceiling of a generation": lambda: ceiling(plain),
        "ceiling of an edit of four images": lambda: ceiling(edit),
        "actual from usage": lambda: actual("gpt-image-2", usage),
    }
    figures = {name: microseconds(run) for name, run in cases.items()}
    for name, figure in figures.items():
        print(f"{name:<36} {figure:6.2f} us   aim {AIM_US:.0f} us")
    return int(any(figure > AIM_US for figure in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
