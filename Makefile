# `make run` shows the main job, `make test` runs all tests. Both set up what they need in .venv first.
# build/setup and build/debian-packages say what they do; `make PYTHON=python3.12 ...` uses another Python.

PYTHON ?= python3
export PYTHON
BIN := .venv/bin
READY := .venv/ready

.PHONY: run test check format lock clean

run: $(READY)
	@$(BIN)/python contrib/demo/demo.py

test: $(READY)
	@build/debian-packages wanted $$(cat build/packages-test.txt)
	@build/setup-realm
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m 'not slow'

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(READY): pyproject.toml build/requirements-dev.txt build/setup
	@build/setup
	@touch $@

# The newest versions that pyproject.toml allows, for every Python from 3.11 on, with the hashes of PyPI.
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-config --custom-compile-command 'make lock' pyproject.toml
lock: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --output-file build/requirements.txt
	$(COMPILE) --extra dev --output-file build/requirements-dev.txt
	$(COMPILE) --extra kerberos --output-file build/requirements-kerberos.txt
	$(COMPILE) --extra realm --output-file build/requirements-realm.txt

clean:
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find sendooway tests contrib -name __pycache__ -prune -exec rm -rf {} +
