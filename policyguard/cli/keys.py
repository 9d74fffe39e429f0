"""`policyguard keys`: callers' keys of the proxy.

A secret is shown once, when it is made; the store has only its digest.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policyguard.cli.output import (
    FINDINGS,
    FormatOption,
    PoliciesOption,
    StoreOption,
    console,
    fail,
    policies_folder,
    print_json,
    table,
)
from policyguard.cli.stores import existing_store, made_store, me
from policyguard.text.identity import identity
from policyguard.text.suggest import known_names

if TYPE_CHECKING:
    from policyguard.policy.model import PolicySet
    from policyguard.store import ProxyKey

app = typer.Typer(no_args_is_help=True, help="Callers' keys of the proxy: who asks, and for which surfaces.")
ByOption = Annotated[str | None, typer.Option("--by", help="Who does it.", show_default="the login name")]


@app.command()
def create(
    name: Annotated[str, typer.Option("--name", help="What the key is for, in words.")],
    surface: Annotated[list[str], typer.Option("--surface", help="A surface that it opens; may be given again.")],
    caller: Annotated[
        list[str] | None,
        typer.Option(
            "--caller", help="A value of who asks, like `tenant=acme`; may be given again.", metavar="NAME=VALUE"
        ),
    ] = None,
    names_user: Annotated[
        bool,
        typer.Option(
            "--names-user",
            help="Its holder says who the user is: header x-policyguard-user, else `safety_identifier` or `user`.",
        ),
    ] = False,
    user_header: Annotated[
        str | None,
        typer.Option(
            "--user-header",
            help="As --names-user, and this header says it, too: for clients that send one of their own.",
            metavar="HEADER",
        ),
    ] = None,
    by: ByOption = None,
    policies: PoliciesOption = None,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Make a key. It is shown once: only its digest is kept.

    A key for several surfaces says with each request which one it means, in the header x-policyguard-surface.

    Examples:

      policyguard keys create --name "web shop" --surface storefront --caller tenant=acme --names-user

      policyguard keys create --name "Open WebUI" --surface studio --user-header X-OpenWebUI-User-Email

      policyguard keys create --name "batch of banners" --surface marketing --caller user=ada --caller feature=banner
    """
    from policyguard.policy.load import load
    from policyguard.store.proxy_keys import new_secret

    declared = load(policies_folder(policies, "keys create"))
    for one in surface:
        _check_surface(declared, one)
    values = dict(_pair(declared, text) for text in caller or ())
    names_user = names_user or user_header is not None
    _check_user(declared, values, names_user)
    secret = new_secret()
    with made_store(store) as opened:
        key = opened.proxy_keys.create(
            secret,
            name=name,
            surfaces=tuple(dict.fromkeys(surface)),
            caller=values,
            names_user=names_user,
            user_header=user_header,
            by=by or me(),
            now=datetime.now(UTC),
        )
    if format == "json":
        print_json({**_data(key), "key": secret})
        return
    console().print(secret)
    console(stderr=True).print(f"key `{key.id}` for {', '.join(key.surfaces)}; it is not shown again")


@app.command("list")
def list_(store: StoreOption = None, format: FormatOption = "text") -> None:
    """Show every key that was made, without its secret.

    Examples:

      policyguard keys list
    """
    with existing_store(store) as opened:
        keys = opened.proxy_keys.all()
    if format == "json":
        print_json([_data(key) for key in keys])
        return
    rows = [(k.id, k.name, ", ".join(k.surfaces), _who(k), _since(k)) for k in keys]
    console().print(table(("key", "for", "surfaces", "caller", "state"), rows, whole=("key",)))


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(help="The id of the key, from `policyguard keys list`.", metavar="KEY")],
    why: Annotated[str, typer.Option("--why", help="The reason; it goes into the record, encrypted.")],
    by: ByOption = None,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """End a key. Every proxy refuses it within five seconds.

    Examples:

      policyguard keys revoke key_01JD9Z6Q5TF3V8M2K7N4P0R6WX --why "leaked"
    """
    with existing_store(store) as opened:
        revoked = opened.proxy_keys.revoke(key, why=why, by=by or me(), now=datetime.now(UTC))
    result = "revoked" if revoked else "was not there, or revoked before"
    if format == "json":
        print_json({"id": key, "result": result})
    else:
        console().print(f"key `{key}`: {result}" + (", refused everywhere within five seconds" if revoked else ""))
    if not revoked:
        raise typer.Exit(FINDINGS)


def _check_surface(policies: PolicySet, surface: str) -> None:
    if surface not in policies.surfaces:
        fail(f"there is no surface `{surface}`", hint=known_names(surface, policies.surfaces))


def _pair(policies: PolicySet, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value.strip():
        fail(f"`--caller {text}` is no value", hint="write it like `--caller tenant=acme`")
    spec = next((spec for spec in policies.caller if spec.name == name), None)
    if spec is None:
        fail(f"org.yaml declares no caller value `{name}`", hint=known_names(name, [s.name for s in policies.caller]))
    value = identity(value)
    if spec.values and value not in spec.values:
        fail(f"`{value}` is no {name}", hint=known_names(value, spec.values))
    return name, value


def _check_user(policies: PolicySet, values: dict[str, str], names_user: bool) -> None:
    """A required value that the key cannot give is missing in every request."""
    for spec in policies.caller:
        given = spec.name in values or spec.default is not None or (spec.name == "user" and names_user)
        if spec.required and not given:
            more = ", or --names-user where its holder says who" if spec.name == "user" else ""
            fail(f"org.yaml requires `{spec.name}`", hint=f"give `--caller {spec.name}=...`{more}")


def _who(key: ProxyKey) -> str:
    if key.caller is None:
        return "erased"
    words = [f"{name}={value}" for name, value in sorted(key.caller.items())]
    named = f"names its user in {key.user_header}" if key.user_header else "names its user"
    return ", ".join([*words, *([named] if key.names_user else [])])


def _since(key: ProxyKey) -> str:
    return f"revoked {key.revoked_at:%Y-%m-%d}" if key.revoked_at else f"good since {key.created_at:%Y-%m-%d}"


def _data(key: ProxyKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "surfaces": list(key.surfaces),
        "caller": key.caller,
        "names_user": key.names_user,
        "user_header": key.user_header,
        "created_at": key.created_at,
        "revoked_at": key.revoked_at,
    }
