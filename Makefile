# Everything on a fresh machine with python3 (with venv) and make:
#   make demo    installs the locked dependencies into .venv and shows policyguard at work
#   make test    the same, then every test
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed

.PHONY: demo test check format bench mutations fuzz lock clean

demo: $(READY)
	$(BIN)/policyguard demo

test: $(READY)
	$(BIN)/python -m pytest -n auto

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/policyguard check policies

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(READY)
	for bench in tests/bench/bench_*.py; do $(BIN)/python $$bench || exit 1; done

# every one-letter edit of every name in the shipped policies; the suite tries some
mutations: $(READY)
	POLICYGUARD_MUTATIONS=all $(BIN)/python -m pytest -n auto -rP tests/policy/test_mutations.py

# minutes of hostile policies instead of seconds
fuzz: $(READY)
	POLICYGUARD_FUZZ=long $(BIN)/python -m pytest -n auto tests/policy/test_fuzz.py

# needs uv; writes the pinned, hashed requirements without any index URL
lock:
	uv pip compile pyproject.toml --extra demo --group dev --generate-hashes --universal --python-version 3.11 \
	  --no-emit-index-url --no-header --output-file requirements.txt

$(READY): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

clean:
	rm -rf $(VENV) policyguard-demo .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
