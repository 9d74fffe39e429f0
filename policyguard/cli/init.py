"""`policyguard init`: a commented starter folder and an app to mount it in.

It writes new files only, and never over one that is there.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from policyguard.cli.output import FormatOption, console, fail, print_json
from policyguard.cli.schema import first_line, write_schemas
from policyguard.policy.starter import starter_folder

APP = '''"""An app whose image route is guarded. From the folder that `init` ran in, with OPENAI_API_KEY set:

    {start}

uvicorn comes with policyguard[serve]. Behind a reverse proxy name it in org.yaml's `trusted_proxies`; uvicorn must not
take the peer from a header (`--no-proxy-headers`), because then anybody could say who asks.
"""

from openai import AsyncOpenAI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policyguard import Guard
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.fastapi import lifespan

guard = Guard.open("{folder}")  # OPENAI_API_KEY moderates; POLICYGUARD_STORE says where the record goes
client = AsyncOpenAI(max_retries=0)


async def avatar(request: Request) -> Response:
    body = await request.json()  # forced, adjusted and with defaults filled in by the guard
    answer = await client.images.with_raw_response.generate(**body)
    return Response(answer.content, media_type="application/json")


app = Starlette(
    routes=[Route("/avatars/v1/images/generations", avatar, methods=["POST"])],
    middleware=[Middleware(PolicyGuardMiddleware, guard=guard)],
    lifespan=lifespan(guard),
)
'''


def init(
    folder: Annotated[Path, typer.Argument(help="Where to write the policies.")] = Path("policies"),
    app: Annotated[Path, typer.Option(help="Where to write the app snippet.")] = Path("app.py"),
    format: FormatOption = "text",
) -> None:
    """Write commented policies with their tests, and an app that enforces them. Nothing is overwritten.

    Examples:

      policyguard init

      policyguard init config/policies --app service.py
    """
    existing = [path for path in (folder, app) if path.exists()]
    if existing:
        fail(f"`{existing[0]}` is there already, nothing was written", hint="name another place, or move it away")
    shutil.copytree(starter_folder(), folder, ignore=shutil.ignore_patterns(".*"))
    start = start_command(app)
    app.write_text(APP.format(start=start, folder=folder.as_posix()))
    for path in folder.rglob("*.yaml"):
        path.write_text(first_line(path) + path.read_text())
    write_schemas(folder)
    written = [*sorted(path for path in folder.rglob("*") if path.is_file()), app]
    if format == "json":
        print_json({"written": [str(path) for path in written]})
        return
    out = console()
    for path in written:
        out.print(f"wrote {path}")
    out.print(f"next: edit the policies, then `policyguard check` and `policyguard test`, then `{start}`")


def start_command(app: Path) -> str:
    """How the app is started from this folder."""
    place = f" --app-dir {app.parent.as_posix()}" if app.parent != Path() else ""
    return f"uvicorn {app.stem}:app{place} --no-proxy-headers"
