"""`policyguard sandbox`: a local server that speaks OpenAI's wire format.

The server is `policyguard.sandbox`; here are its options.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from policyguard.cli.output import FormatOption, console, fail, print_json


def sandbox(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port.", min=1, max=65_535)] = 8787,
    allow_remote: Annotated[bool, typer.Option("--allow-remote", help="Listen beyond this machine.")] = False,
    format: FormatOption = "text",
) -> None:
    """Serve images, moderations, decisions and models like OpenAI does, without a key and without a cost.

    Faults on demand: send the header `x-sandbox-fault: 429|500|502|503|slow|cut|moderation_blocked|no_usage|nonsense`,
    for a stream `error_event|unfinished`, too, or POST {"path", "fault", "times"} to /sandbox/faults.
    GET /sandbox/requests says what it was asked.

    Examples:

      policyguard sandbox

      OPENAI_BASE_URL=http://127.0.0.1:8787/v1 OPENAI_API_KEY=sk-sandbox python app.py
    """
    from policyguard.proxy.listen import is_loopback, listen, url_of

    if not allow_remote and not is_loopback(host):
        fail(
            f"`{host}` is not this machine alone", hint="the sandbox has no users; --allow-remote listens all the same"
        )
    try:
        from policyguard.sandbox import create_app
        from policyguard.sandbox.server import run
    except ImportError as error:
        fail("the sandbox needs more than is installed", hint=str(error))
    listening = listen(host, port)
    url = url_of(listening)
    if format == "json":
        print_json({"url": url, "base_url": f"{url}/v1"})
        sys.stdout.flush()  # whoever reads a pipe waits for this line
    out = console(stderr=format == "json")
    out.print(f"sandbox on {url}, stop it with ctrl-c")
    out.print(f"use it: OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=sk-sandbox")
    run(create_app(), listening)
