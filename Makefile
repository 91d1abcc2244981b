# `make run` shows the main job, `make test` runs all tests. Both set up what they need in .venv first.
# build/setup and build/debian-packages say what they do; `make PYTHON=python3.12 ...` uses another Python.

PYTHON ?= python3
export PYTHON
BIN := .venv/bin
READY := .venv/ready
DIST_READY := .venv/ready-dist

.PHONY: run test check fuzz interop soak dist deb bench bench-scale bench-start install uninstall format lock clean

run: $(READY)
	@$(BIN)/python contrib/demo/demo.py

test: $(READY)
	@build/debian-packages wanted $$(cat build/packages-test.txt)
	@build/setup-realm
	@build/setup-nodemailer
	@$(MAKE) --no-print-directory dist || { rm -f dist/sendooway; echo "Tests of the built file are skipped." >&2; }
	SENDOOWAY_PROGRAM=$$(ls $(CURDIR)/dist/sendooway 2> /dev/null) $(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q -m 'not slow'

# What a broken or hostile program might say, for MINUTES; SEED repeats a run. See tests/fuzz.
fuzz: MINUTES ?= 5
fuzz: $(READY)
	@PYTHONPATH=tests $(BIN)/python -m fuzz --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# Every mail program through every smarthost, as a table. See tests/interop.
interop: $(READY)
	@build/debian-packages wanted $$(cat build/packages-test.txt)
	@build/setup-nodemailer
	@PYTHONPATH=tests $(BIN)/python -m interop.matrix $(ONLY)

# Many clients, faults on all sides, processes killed, for MINUTES: what the server takes must not grow. See tests/soak.
soak: MINUTES ?= 30
soak: $(READY)
	@PYTHONPATH=tests $(BIN)/python -m soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

# One file that runs wherever there is Python 3.11 or newer.
dist: $(READY) $(DIST_READY)
	@build/dist dist/sendooway

# What a mail costs, beside Dovecot and beside a mail that is sent directly. See tests/bench.
bench: ROUNDS ?= 5
bench: dist
	@build/debian-packages wanted dovecot-submissiond
	@PYTHONPATH=tests SENDOOWAY_PROGRAM=$(CURDIR)/dist/sendooway $(BIN)/python -m bench --rounds $(ROUNDS)

# How that grows with sessions, identities and octets: tables, and the plots of the README.
bench-scale: dist
	@PYTHONPATH=tests SENDOOWAY_PROGRAM=$(CURDIR)/dist/sendooway $(BIN)/python -m bench.scale --plots tests/bench/plots

bench-start: dist
	@$(BIN)/python build/bench_start.py dist/sendooway

# Takes PREFIX, DESTDIR and SYSCONFDIR.
install: dist/sendooway
	@build/install install

uninstall:
	@build/install uninstall

# A package for Debian and its relatives.
deb: dist
	@$(BIN)/python build/deb.py dist

# What `make dist` made, also for root who has none of the tools that it takes.
dist/sendooway:
	@$(MAKE) --no-print-directory dist

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m sendooway --print-config > contrib/sendooway.conf

$(READY): pyproject.toml build/requirements-dev.txt build/setup
	@build/setup
	@touch $@

$(DIST_READY): $(READY) build/requirements-dist.txt
	@$(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes -r build/requirements-dist.txt
	@touch $@

# The newest versions that pyproject.toml allows, for every Python from 3.11 on, with the hashes of PyPI.
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--no-config --custom-compile-command 'make lock' pyproject.toml
lock: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --output-file build/requirements.txt
	$(COMPILE) --extra dev --output-file build/requirements-dev.txt
	$(COMPILE) --extra kerberos --output-file build/requirements-kerberos.txt
	$(COMPILE) --extra realm --output-file build/requirements-realm.txt
	$(COMPILE) --extra dist --constraint build/requirements-dev.txt --output-file build/requirements-dist.txt

clean:
	rm -rf .venv dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find sendooway tests contrib -name __pycache__ -prune -exec rm -rf {} +
