"""Code that uses the OpenAI SDK already: guard its client, change nothing else.

export OPENAI_API_KEY=...             # or: policyguard sandbox, and OPENAI_BASE_URL=http://127.0.0.1:8787/v1
python examples/guarded_client.py "a fox in a scarf"
"""

from __future__ import annotations

import sys

from openai import APIStatusError, OpenAI

import policyguard
from policyguard import Guard
from policyguard.adapters.transport import guarded

guard = Guard.open()
client = guarded(OpenAI(), guard, surface="avatars")


def main(prompt: str) -> None:
    with policyguard.caller(user="u1", tenant="acme", feature="cli"):
        try:
            made = client.images.with_raw_response.generate(prompt=prompt, n=4, moderation="low")
        except APIStatusError as refused:  # the SDK's own errors, refusals by the policy and by OpenAI alike
            print(f"refused: {refused.status_code} {refused.code}")
            return
    usage = made.parse().usage
    tokens = usage.output_tokens if usage else 0
    print(f"made pictures, {tokens} output tokens, adjusted: {made.headers.get('x-policyguard-adjusted')}")


if __name__ == "__main__":
    with guard, client:
        main(" ".join(sys.argv[1:]) or "a fox in a scarf")
