"""The guard used directly, without a door: admit, mark as sent, settle.

For code that no door fits. What the outcome says decides whether the money is charged, released or presumed.

    export OPENAI_API_KEY=...             # or: policyguard sandbox, and OPENAI_BASE_URL=http://127.0.0.1:8787/v1
    python examples/by_hand.py
"""

from __future__ import annotations

from typing import Any

from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAI

from policyguard import Admitted, Caller, Guard, Held, ImageRequest, Outcome, Usage
from policyguard.request import Failure

guard = Guard.open()
client = OpenAI(max_retries=0)


def make_campaign_picture(prompt: str, user: str, team: str) -> dict[str, Any]:
    request = ImageRequest(prompt=prompt, size="1536x1024", quality="medium")
    answer = guard.admit(request, Caller(user=user, tenant=team), surface="marketing")
    if isinstance(answer, Held):
        return {"state": "held", "review_id": answer.review_id}
    if not isinstance(answer, Admitted):
        return {"state": "refused", "code": answer.code, "reasons": [r.id for r in answer.decision.reasons]}
    if not guard.sent(answer.ticket):  # it waited in a queue for longer than its reservation holds
        return {"state": "expired"}
    outcome, tokens = call(answer)
    settled = guard.settle(answer.ticket, outcome)
    return {"state": str(settled.state), "tokens": tokens, "charged_micros": settled.charged_micros}


def call(admitted: Admitted) -> tuple[Outcome, int]:
    """One call, no retries: what went wrong decides whether the money is released or presumed."""
    request, identifier = admitted.request, admitted.ticket.safety_identifier
    try:
        made: Any = client.images.generate(
            prompt=request.prompt,
            model=request.model,
            size=request.size,  # type: ignore[arg-type]
            quality=request.quality,  # type: ignore[arg-type]
            n=request.n,
            moderation="auto",
            extra_body={"safety_identifier": identifier},
        )
    except APITimeoutError:
        return Outcome(failure=Failure.TIMEOUT), 0
    except APIConnectionError:
        return Outcome(failure=Failure.CUT), 0
    except APIStatusError as error:  # OpenAI's own answer: definite
        return Outcome(status=error.status_code, failure=Failure.ERROR, definite=True, error_code=error.code), 0
    usage = Usage(
        input_text_tokens=made.usage.input_tokens_details.text_tokens,
        input_image_tokens=made.usage.input_tokens_details.image_tokens,
        output_image_tokens=made.usage.output_tokens,
    )
    return Outcome(status=200, usage=usage, request_id=made._request_id), made.usage.output_tokens


if __name__ == "__main__":
    with guard:
        print(make_campaign_picture("a paper boat regatta, top view", "u1", "brand-team"))
    client.close()
