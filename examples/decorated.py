"""A function that makes images, guarded by the decorator.

export OPENAI_API_KEY=...             # or: policyguard sandbox, and OPENAI_BASE_URL=http://127.0.0.1:8787/v1
python examples/decorated.py "a fox in a scarf"
"""

from __future__ import annotations

import sys

from openai import OpenAI
from openai.types import ImagesResponse

import policyguard
from policyguard import Guard, PolicyRefused
from policyguard.adapters.sdk_results import images, restore

guard = Guard.open()
client = OpenAI(max_retries=0)


@guard.enforce("avatars", constants={"n": 1}, images=images, restore=restore)
def draw(
    prompt: str, model: str = "gpt-image-2.5-flare-2026-09-08", size: str = "1024x1024", quality: str = "low"
) -> ImagesResponse:
    """Arguments named like the API's are what the policy sees, and what it puts in place before this runs."""
    return client.images.generate(prompt=prompt, model=model, size=size, quality=quality)  # type: ignore[call-overload,no-any-return]


def main(prompt: str) -> None:
    with policyguard.caller(user="u1", tenant="acme", feature="cli"):
        try:
            picture = draw(prompt)
        except PolicyRefused as refused:
            reasons = ", ".join(reason.id for reason in refused.decision.reasons)
            print(f"refused: {refused.code} ({reasons})")
            return
    usage = picture.usage
    print(f"made a picture, {usage.output_tokens if usage else 0} output tokens")


if __name__ == "__main__":
    with guard:
        main(" ".join(sys.argv[1:]) or "a fox in a scarf")
    client.close()
