"""Addresses that honest clients ask at and that are not served here: what the right one is. Nothing is served by it.

A base URL without `/v1`, with two of them or with a slash too many, and Azure's deployments, where the address names
the model: that is the body's to say, and the policy's to decide.
"""

from __future__ import annotations

from collections.abc import Collection

BASE = "/v1"
_AZURE = "/openai/v1/"  # the same API under Azure's own address


def canonical(path: str) -> str:
    """The path as it is served: Azure's address of the same API is as good as OpenAI's."""
    return f"{BASE}/{path.removeprefix(_AZURE)}" if path.startswith(_AZURE) else path


def advice(path: str, served: Collection[str]) -> str | None:
    """What to say to who asks at `path`; None where no address that is `served` was meant."""
    parts = [part for part in path.split("/") if part and part != "v1"]
    if parts[:1] == ["openai"]:
        parts = parts[1:]
    deployed = parts[:1] == ["deployments"]
    right = "/".join((BASE, *(parts[2:] if deployed else parts)))
    if right not in served or right == path:
        return None
    what = "deployments are not served, name the model in the body: " if deployed else ""
    return f"{what}the address is `{right}`, and {_BASE_URL}"


_BASE_URL = "a client's base URL ends with `/v1`, once, without a slash after it"
