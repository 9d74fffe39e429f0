"""`policyguard serve`: the OpenAI-compatible proxy.

Every option is also a setting of the environment; the server is `policyguard.proxy`.
"""

from __future__ import annotations

import sys
from functools import partial
from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import urlsplit

import typer

from policyguard.cli.output import FormatOption, PoliciesOption, StoreOption, console, fail, policies_folder, print_json
from policyguard.settings import masked

if TYPE_CHECKING:
    from policyguard.proxy.serving import Options

_INSTALL = "pip install 'policyguard[serve]'"
_MB = 1024 * 1024

UpstreamOption = Annotated[
    str | None,
    typer.Option(
        "--upstream", envvar="OPENAI_BASE_URL", help="The API's address.", show_default="https://api.openai.com/v1"
    ),
]
MaxBodies = Annotated[int, typer.Option(help="Bytes of all bodies in flight, for each worker.", min=1_000)]
MetricsFrom = Annotated[
    list[str] | None,
    typer.Option(help="A network that is shown them; may be repeated.", show_default="this machine"),
]
MetricsForwarded = Annotated[
    bool, typer.Option("--metrics-forwarded", help="Show them through a reverse proxy in such a network, too.")
]
CorsOrigin = Annotated[
    list[str] | None,
    typer.Option(
        help="An origin whose pages may ask from a browser, like https://app.example.com; may be repeated.",
        show_default="none",
    ),
]
LogFormatOption = Annotated[Literal["text", "json"], typer.Option(help="The log, on the error stream.")]
LogLevel = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR"], typer.Option(help="From which level.", case_sensitive=False)
]


def serve(
    host: Annotated[str, typer.Option(help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0 takes a free one.", min=0, max=65_535)] = 8080,
    policies: PoliciesOption = None,
    store: StoreOption = None,
    upstream: UpstreamOption = None,
    workers: Annotated[int, typer.Option(help="Processes that serve.", min=1, max=64)] = 1,
    max_requests: Annotated[int, typer.Option(help="Requests in flight at once, for each worker.", min=1)] = 1_000,
    max_connections: Annotated[int, typer.Option(help="Connections, for each worker.", min=1)] = 2_000,
    max_body: Annotated[int, typer.Option(help="Bytes of an edit with its pictures.", min=1_000)] = 64 * _MB,
    max_bodies: MaxBodies = 512 * _MB,
    max_headers: Annotated[int, typer.Option(help="Bytes of a request's headers.", min=1_000)] = 32_768,
    body_timeout: Annotated[float, typer.Option(help="Seconds for a body to arrive.", min=0.1)] = 60.0,
    upstream_timeout: Annotated[float, typer.Option(help="Seconds of silence from upstream.", min=1.0)] = 600.0,
    grace: Annotated[float, typer.Option(help="Seconds until the process has ended, after SIGTERM.", min=1.0)] = 30.0,
    metrics: Annotated[bool, typer.Option(help="Show /metrics.")] = True,
    metrics_from: MetricsFrom = None,
    metrics_forwarded: MetricsForwarded = False,
    cors_origin: CorsOrigin = None,
    log_format: LogFormatOption = "text",
    log_level: LogLevel = "INFO",
    format: FormatOption = "text",
) -> None:
    """Serve OpenAI's image routes to any client, and decide every request by the policies before it goes upstream.

    Clients use this address as their base_url, with a key that `policyguard keys create` made. The upstream's own key
    comes from OPENAI_API_KEY and never leaves. `/healthz` says that it lives, `/readyz` whether it can decide,
    `/metrics` is for Prometheus. The log has a line for each decision and each end, and nothing of what was asked.

    Examples:

      policyguard keys create --name "web shop" --surface storefront --caller tenant=acme

      OPENAI_API_KEY=sk-... policyguard serve --host 0.0.0.0 --workers 4

      OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=sk-policyguard-... python app.py
    """
    try:
        from policyguard.proxy.http_limits import ConnectionLimits
        from policyguard.proxy.proxy import ProxyLimits
        from policyguard.proxy.serving import Options
    except ImportError as error:
        fail(f"the proxy needs more than is installed ({error.name})", hint=_INSTALL)
    options = Options(
        policies=policies_folder(policies, "serve"),
        store=store,
        upstream=upstream,
        workers=workers,
        grace_s=grace,
        upstream_timeout_s=upstream_timeout,
        **_metrics(metrics, metrics_from),
        metrics_forwarded=metrics_forwarded,
        cors_origins=tuple(map(_origin, cors_origin or ())),
        log_format=log_format,
        log_level=log_level,
        limits=ProxyLimits(
            requests=max_requests,
            bodies_bytes=max_bodies,
            body_bytes=max_body,
            header_bytes=max_headers,
            body_timeout_s=body_timeout,
        ),
        connections=ConnectionLimits(connections=max_connections, header_bytes=max_headers),
    )
    _run(options, host, port, format)


def _run(options: Options, host: str, port: int, format: str) -> None:
    from policyguard.proxy.listen import is_here, listen, url_of
    from policyguard.proxy.serving import open_guard
    from policyguard.proxy.serving import serve as run

    opened = open_guard(options)  # what is wrong is said now, and by this process
    guard, above = opened
    listening = listen(host, port)
    if is_here(listening, above.base_url):
        listening.close()
        guard.close()
        fail(
            "the upstream is this proxy itself",
            hint="OPENAI_BASE_URL or --upstream is OpenAI's address, not serve's own",
        )
    say = partial(_say, format, url_of(listening), masked(above.base_url), sorted(guard.policies.surfaces))
    if options.workers == 1:
        run(options, listening, say, opened)
    else:  # each worker opens its own
        guard.close()
        run(options, listening, say)


def _metrics(shown: bool, networks: list[str] | None) -> dict[str, Any]:
    """Options of the server; nothing where its own default holds."""
    if not shown:
        return {"metrics": ()}
    try:
        return {"metrics": tuple(map(ip_network, networks))} if networks else {}
    except ValueError as error:
        fail(f"--metrics-from: {error}", hint="give it a network like 10.0.0.0/8")


def _origin(text: str) -> str:
    """As browsers write it: what is written otherwise would never match."""
    parts = urlsplit(text)
    plain = f"{parts.scheme}://{parts.netloc}".lower()
    if text != "*" and (
        parts.scheme not in ("http", "https") or not parts.hostname or text.rstrip("/").lower() != plain
    ):
        fail(f"--cors-origin: `{text}` is no origin", hint="write it like https://app.example.com, without a path")
    return text if text == "*" else plain


def _say(format: str, url: str, upstream: str, surfaces: list[str]) -> None:
    if format == "json":
        print_json({"url": url, "base_url": f"{url}/v1", "upstream": upstream, "surfaces": surfaces})
        sys.stdout.flush()  # whoever reads a pipe waits for this line
    out = console(stderr=format == "json")
    out.print(f"proxy on {url} for {upstream}, stop it with ctrl-c")
    out.print(f"surfaces: {', '.join(surfaces)}")
    out.print(f"use it: OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=<a key from `policyguard keys create`>")
    sys.stdout.flush()
