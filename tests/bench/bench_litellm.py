"""The proxy beside LiteLLM's, which moderates with its own guardrail, and beside the floor, in one run.

Run it: `POLICYGUARD_LITELLM_PYTHON=/path/to/venv/bin/python python tests/bench/bench_litellm.py [seconds]`, with the
Python of an environment that has `litellm[proxy]`; without it there is nothing to compare. The same upstream, the same
requests and the same clients as in `bench_proxy`. LiteLLM keeps no record and reserves nothing here: it has no
database.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

import bench_proxy
from bench_proxy import _free_port, best, itself, measure, prepare, started

MODEL = "gpt-image-2-2026-04-21"
CLIENTS = (1, 16)
CONFIG = """
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: {base}, api_key: sk-upstream}}
guardrails:
  - guardrail_name: moderation
    litellm_params:
      {{guardrail: openai_moderation, mode: pre_call, default_on: true, api_base: {base}, api_key: sk-upstream}}
litellm_settings: {{telemetry: false, num_retries: 0}}
"""
QUIET = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "NO_DOCS": "True", "PYTHONPATH": ""}


def main(python: str, seconds: float) -> None:
    asked = {**json.loads(bench_proxy.BODY), "model": MODEL}  # LiteLLM has no default
    bench_proxy.BODY = json.dumps(asked).encode()
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        settings, key = prepare(Path(folder))
        up, bare, ours, theirs = (_free_port() for _ in range(4))
        base = f"http://127.0.0.1:{up}/v1"
        (Path(folder) / "litellm.yaml").write_text(CONFIG.format(model=MODEL, base=base))
        bench = [sys.executable, bench_proxy.__file__]
        serve = [sys.executable, "-m", "policyguard", "serve", "--port", str(ours), "--upstream", base]
        litellm = [str(Path(python).with_name("litellm")), "--config", f"{folder}/litellm.yaml", "--host", "127.0.0.1"]
        running.enter_context(started([*bench, *itself("upstream", str(up))[2:]], up))
        servers = {
            "floor": running.enter_context(started([*bench, *itself("floor", str(bare), base)[2:]], bare)),
            "proxy": running.enter_context(started(serve, ours, **settings)),
            "LiteLLM": running.enter_context(
                started([*litellm, "--port", str(theirs)], theirs, LITELLM_MASTER_KEY=key, **QUIET)
            ),
        }
        print(f"{'':<8} {'clients':>7} {'requests/s':>10} {'CPU ms':>7} {'p50 ms':>7} {'RSS MB':>7} {'ready s':>7}")
        for server in servers.values():
            measure(server, key, 4, seconds)  # warm
        for clients in CLIENTS:
            for name, server in servers.items():
                rate, cpu, middle = best([measure(server, key, clients, seconds) for _ in range(2)])
                size, ready = server.rss_mb(), server.ready_s
                print(f"{name:<8} {clients:>7} {rate:>10,.0f} {cpu:>7.2f} {middle:>7.1f} {size:>7.0f} {ready:>7.1f}")


if __name__ == "__main__":
    there = os.environ.get("POLICYGUARD_LITELLM_PYTHON")
    if there is None:
        print("POLICYGUARD_LITELLM_PYTHON names no Python that has litellm: nothing to compare")
    else:
        main(there, float(sys.argv[1]) if sys.argv[1:] else 3.0)
