"""A Celery task that makes images: who asks travels with it, and what the policy refuses is its result.

    export OPENAI_API_KEY=...             # or: policyguard sandbox, and OPENAI_BASE_URL=http://127.0.0.1:8787/v1
    export CELERY_CONFIG_MODULE=...       # a module with broker_url and result_backend
    celery -A examples.celery_worker worker

    with policyguard.caller(user="u1", tenant="brand-team"):
        draw.delay("a paper boat regatta, top view", **carried())

With RQ it is the same function without the first decorator: `queue.enqueue(draw, "a paper boat", **carried())`.
"""

from __future__ import annotations

from typing import Any

from celery import Celery
from openai import APIConnectionError, OpenAI

from policyguard import Guard, PolicyUnavailable
from policyguard.adapters.tasks import task

app = Celery("pictures")
app.config_from_envvar("CELERY_CONFIG_MODULE", silent=True)
guard = Guard.open()  # the module's own; each worker process opens the store for itself
client = OpenAI(max_retries=0)

# Only what was not decided, or did not reach OpenAI, is tried again; what was refused is returned as the result.
RETRIED = (PolicyUnavailable, APIConnectionError)


@app.task(name="draw", autoretry_for=RETRIED, max_retries=3, retry_backoff=True)
@task
@guard.enforce("marketing")
def draw(
    prompt: str,
    model: str = "gpt-image-2.5-flare-2026-09-08",
    size: str = "1024x1024",
    quality: str = "low",
    n: int = 1,
) -> dict[str, Any]:
    """What is returned goes to the result backend, so it is plain; a real task would store the pictures, too."""
    made = client.images.generate(prompt=prompt, model=model, size=size, quality=quality, n=n)  # type: ignore[call-overload]
    return {"usage": made.usage.model_dump(), "pictures": len(made.data)}
