"""What a type checker tells a user of the package: an option that is misspelt or of another type is an error."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

from hatchling.builders.wheel import WheelBuilder
from patience import HANGS_S

ROOT = Path(__file__).parents[2]
USE = """
from openai import AsyncOpenAI, OpenAI
from starlette.applications import Starlette

from policyguard import Admitted, Guard, ImageRequest, Outcome
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.metrics import Metrics
from policyguard.adapters.transport import guarded

guard = Guard.open("policies")
app = Starlette()
app.add_middleware(PolicyGuardMiddleware, guard=guard, max_json_bytes=1_000)
app.add_middleware(PolicyGuardMiddleware, guard=guard, max_jason_bytes=1_000)  # refused
app.add_middleware(PolicyGuardMiddleware, guard="policies")  # refused
app.add_middleware(PolicyGuardMiddleware)  # refused
app.mount("/metrics", Metrics(guard))
client: OpenAI = guarded(OpenAI(), guard, surface="avatars")
aclient: AsyncOpenAI = guarded(AsyncOpenAI(), guard, surface="avatars")
guarded(OpenAI(), guard, surfaces="avatars")  # refused


@guard.enforce("avatars", constants={"n": 1})
def draw(prompt: str, model: str) -> bytes:
    return b""


picture: bytes = draw("a cat", model="m")
draw("a cat", modell="m")  # refused
answer = guard.admit(ImageRequest(prompt="a cat"), surface="avatars", dore="python")  # refused
if isinstance(answer, Admitted):
    guard.settle(answer.ticket, Outcome(status=200))
    answer.code  # refused
"""


def test_a_misspelt_option_is_a_type_error(tmp_path: Path) -> None:
    (tmp_path / "use.py").write_text(USE)
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context", "use.py"]
    config = tmp_path / "mypy.ini"
    config.write_text(f"[mypy]\npython_version = 3.11\nmypy_path = {ROOT}\n")
    done = subprocess.run(
        [*command, "--config-file", str(config)], cwd=tmp_path, capture_output=True, text=True, timeout=HANGS_S
    )
    refused = [number for number, line in enumerate(USE.splitlines(), 1) if line.endswith("# refused")]
    assert sorted({int(line) for line in re.findall(r"^use\.py:(\d+): error", done.stdout, flags=re.M)}) == refused, (
        done.stdout + done.stderr
    )


def test_the_wheel_says_that_it_is_typed(tmp_path: Path) -> None:
    wheel = next(iter(WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])))
    names = zipfile.ZipFile(wheel).namelist()
    assert "policyguard/py.typed" in names
    assert [name for name in names if name.startswith("tests/")] == []
