"""`policyguard doctor`: what is configured, reachable and missing.

It only looks: nothing is made, migrated or repaired. Every finding says what to do about it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from policyguard.cli.output import FINDINGS, FormatOption, console, print_json, table
from policyguard.errors import ConfigError, PolicyError, StoreUnavailable
from policyguard.request import CATEGORIES
from policyguard.settings import SETTINGS, masked, openai_key, setting, without_secrets

if TYPE_CHECKING:
    from policyguard.proxy.probe import ProbeFinding

DiagnosisMark = Literal["ok", "note", "problem"]
_OPENAI = frozenset({"omni-moderation-latest", "omni-moderation-2024-09-26"})  # they need the key


class Diagnosis(NamedTuple):
    """One thing that was looked at. A `problem` ends the verb with exit code 1, a `note` does not."""

    mark: DiagnosisMark
    what: str
    says: str


def doctor(
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the upstream.")] = False,
    format: FormatOption = "text",
) -> None:
    """Look at the settings, policies, store, key file, price book, upstream, telemetry and optional parts.

    Nothing is made or changed. Where OPENAI_API_KEY is set, the upstream is asked for its models, which is free.

    Examples:

      policyguard doctor

      POLICYGUARD_POLICIES=config policyguard doctor --format json
    """
    looks = _LOOKS if offline else (*_LOOKS, _upstream)
    found = [finding._replace(says=without_secrets(finding.says)) for look in looks for finding in look()]
    if format == "json":
        print_json([finding._asdict() for finding in found])
    else:
        console().print(table(("", "what", "finding"), found))
    if any(finding.mark == "problem" for finding in found):
        raise typer.Exit(FINDINGS)


def _python() -> Iterator[Diagnosis]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Diagnosis("ok" if sys.version_info >= (3, 11) else "problem", "python", version)


def _zones() -> Iterator[Diagnosis]:
    from policyguard import zones

    yield Diagnosis("ok", "time zones", f"tzdata {zones.VERSION}; the system's table is not used")


def _settings() -> Iterator[Diagnosis]:
    for spec in SETTINGS.values():
        given = os.environ.get(spec.environment)
        if spec.secret:
            says = "set" if given else "not set"
        else:
            says = (
                f"{masked(given or spec.default or 'not set')}{'' if given else ' (default)' if spec.default else ''}"
            )
        yield Diagnosis("ok" if given or spec.default else "note", spec.environment, says)


def _policies() -> Iterator[Diagnosis]:
    from policyguard.policy.load import load

    folder = setting("policies") or "policies"
    if not Path(folder).is_dir():
        yield Diagnosis("problem", "policies", f"there is no folder `{masked(folder)}`; `policyguard init` writes one")
        return
    try:
        loaded = load(folder)
    except PolicyError as error:
        yield Diagnosis("problem", "policies", f"{len(error.diagnostics)} problems; see `policyguard check {folder}`")
        return
    yield Diagnosis("ok", "policies", f"{len(loaded.surfaces)} surfaces in `{folder}`")
    models = sorted({policy.moderation.model for policy in loaded.surfaces.values()})
    if not _OPENAI.isdisjoint(models) and setting("openai_key") is None:
        yield Diagnosis(
            "problem", "moderation", f"the policies name {', '.join(models)}, and OPENAI_API_KEY is not set"
        )


def _moderators() -> Iterator[Diagnosis]:
    """Who declares which model. One that is broken is a problem of the policies that name it, and reported there."""
    from policyguard.policy import moderators

    for model, entries in moderators.installed().items():
        found = moderators.declared(model)
        what = f"moderation model {model}"
        if isinstance(found, moderators.Unusable):
            yield Diagnosis("note", what, f"{found.message} {found.hint}".strip())
            continue
        blind = "" if found.assesses.images else "; sees no pictures"
        count = f"{len(found.assesses.prompt)} of {len(CATEGORIES)} categories"
        yield Diagnosis("ok", what, f"by {moderators.distribution(entries[0])}, {count}{blind}")


def _store() -> Iterator[Diagnosis]:
    from policyguard.audit.keys import load_key
    from policyguard.audit.private import Vault
    from policyguard.store import key_path, open_store
    from policyguard.store.address import is_missing, place, sqlite_path

    url = setting("store") or ""
    try:
        if is_missing(url):
            yield Diagnosis("note", "store", f"`{sqlite_path(url)}` is not there yet; it is made at the first request")
            return
        key = load_key(key_path(url), create=False)
        yield Diagnosis("ok", "key file", "readable by its owner only")
        store = open_store(url, vault=Vault(key))
        status, window = store.check(), store.durability()
        off = f"this host is {store.clock.skew_s:+.0f} s off the database, whose time is used; set its clock"
        if store.clock.is_off:
            yield Diagnosis("problem", "clock", off)
        store.close()
    except (ConfigError, StoreUnavailable) as error:
        yield Diagnosis("problem", "store", str(error))
        return
    yield Diagnosis("ok" if status.up_to_date else "problem", "store", f"{place(url)}, schema {status.current}")
    if window is not None:
        yield Diagnosis("note", "durability", window)


def _prices() -> Iterator[Diagnosis]:
    from policyguard.cli.prices import book_of

    try:
        book = book_of(None)
    except PolicyError as error:
        yield Diagnosis("problem", "prices", str(error.diagnostics[0]))
        return
    own = f", {len(book.own)} of them your own" if book.own else ""
    yield Diagnosis("ok", "prices", f"as of {book.as_of}, {len(book.models)} model names{own}")


def _trust() -> Iterator[Diagnosis]:
    """The HTTP client trusts the operating system's certificates; slim images have none."""
    paths = ssl.get_default_verify_paths()
    there = any(path and Path(path).exists() for path in (paths.cafile, paths.capath, os.environ.get("SSL_CERT_FILE")))
    says = "found" if there else "none found: install ca-certificates, or set SSL_CERT_FILE"
    yield Diagnosis("ok" if there else "problem", "certificates", says)


def _upstream() -> Iterator[Diagnosis]:
    """By a real request: what is configured wrongly looks right on paper."""
    try:
        key = openai_key()
        if key is None:
            return
        from policyguard.proxy.probe import probe_upstream
        from policyguard.proxy.upstream import Upstream

        upstream = Upstream(key=key, base_url=setting("openai_url"), trust_env=True)
    except ConfigError as error:
        yield Diagnosis("problem", "upstream", str(error))
        return
    except ImportError:  # the extra has a line of its own
        return

    async def look() -> tuple[ProbeFinding, ...]:
        try:
            return await probe_upstream(upstream)
        finally:
            await upstream.aclose()

    found = asyncio.run(look())
    for one in found:
        yield Diagnosis("problem" if one.stops else "note", "upstream", f"{upstream.base_url}: {one.says}")
    if not found:
        yield Diagnosis("ok", "upstream", f"{upstream.base_url} answers, and takes the key")


_OTEL = ("OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT")


def _telemetry() -> Iterator[Diagnosis]:
    """Names of settings alone: an address can have a password in it. What a host sets up in code is not seen here."""
    given = [name for name in _OTEL if os.environ.get(name)]
    if importlib.util.find_spec("opentelemetry.sdk") is None:
        says = "no SDK, so no spans and metrics: pip install 'policyguard[otel]', or your host's own"
        yield Diagnosis("note", "opentelemetry", says)
    else:
        configured = f"the environment sets {', '.join(given)}" if given else "the environment sets nothing of it"
        yield Diagnosis("ok" if given else "note", "opentelemetry", f"SDK installed; {configured}")
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder and not Path(folder).is_dir():
        yield Diagnosis(
            "problem", "prometheus", f"PROMETHEUS_MULTIPROC_DIR names `{masked(folder)}`, which is no folder"
        )
    elif folder:
        yield Diagnosis("ok", "prometheus", "several processes count together in PROMETHEUS_MULTIPROC_DIR")


def _extras() -> Iterator[Diagnosis]:
    extras = (
        ("uvicorn", "demo, sandbox", "demo"),
        ("PIL", "pictures of edits; without it none passes", "images"),
        ("aiohttp", "proxy", "serve"),
        ("psycopg", "PostgreSQL", "postgres"),
        ("prometheus_client", "metrics for Prometheus", "prometheus"),
    )
    for module, use, extra in extras:
        there = importlib.util.find_spec(module) is not None
        says = "installed" if there else f"not installed: pip install 'policyguard[{extra}]'"
        yield Diagnosis("ok" if there else "note", f"{module} ({use})", says)


_LOOKS: tuple[Callable[[], Iterator[Diagnosis]], ...] = (
    _python,
    _zones,
    _settings,
    _policies,
    _moderators,
    _store,
    _prices,
    _trust,
    _telemetry,
    _extras,
)
