# make run     a simulated IGRIS_B with real-time chunking (ARGS="--duration 20" passes flags on)
# make test    the tests, two at a time (ARGS="-n 0": one after the other, as --pdb needs it)
# make bench   all benchmarks beside their peers, an hour; writes docs/benchmarks.md
# make bench-short   3 minutes of it, which end in the budgets; writes nothing
# make chaos   kill, stall and starve it, about 10 minutes (ARGS="--seed 7" draws other moments)
# make soak    the same for about an hour; writes docs/reliability.md
# make lint    ruff and mypy
# make test-policies   the tests with lerobot's own SmolVLA, in a .venv-policies of their own
# make test-openpi     the policy server and openpi's own client, in a .venv-openpi of its own
# make test-fleet      policies on a cluster of Ray's, on this machine, in a .venv-fleet of its own
# make setup   .venv with everything that these need; quick when nothing changed

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup run test test-policies test-openpi test-fleet bench bench-short chaos soak lint

setup: $(STAMP)

# The pins are the versions that were tested together.
$(STAMP): pyproject.toml constraints.txt
	@echo "installing into $(VENV), about 2 minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		--editable ".[sim,dds,viz,record,web,metrics,remote,dev]"
	@touch $(STAMP)

run: setup
	$(BIN)/python -m rt.launch --robot igris_b $(ARGS)

test: setup
	$(BIN)/python -m pytest -n 2 $(ARGS)

POLICIES := .venv-policies

$(POLICIES)/.installed: constraints-policies.txt
	$(PYTHON) -m venv $(POLICIES)
	$(POLICIES)/bin/python -m pip install --quiet --requirement constraints-policies.txt
	$(POLICIES)/bin/python -m pip install --quiet --no-deps --editable . lerobot==0.4.4
	@touch $@

test-policies: $(POLICIES)/.installed
	$(POLICIES)/bin/python -m pytest tests_policies $(ARGS)

OPENPI := .venv-openpi

$(OPENPI)/.installed: constraints-openpi.txt
	$(PYTHON) -m venv $(OPENPI)
	$(OPENPI)/bin/python -m pip install --quiet --requirement constraints-openpi.txt
	@touch $@

test-openpi: setup $(OPENPI)/.installed
	$(BIN)/python -m pytest tests_openpi $(ARGS)

FLEET := .venv-fleet

$(FLEET)/.installed: pyproject.toml constraints-fleet.txt
	$(PYTHON) -m venv $(FLEET)
	$(FLEET)/bin/python -m pip install --quiet --constraint constraints-fleet.txt \
		--editable ".[sim,dds,remote,fleet,dev]" pytest-benchmark
	@touch $@

test-fleet: $(FLEET)/.installed
	$(FLEET)/bin/python -m pytest tests_fleet $(ARGS)

# The peers apart from the rest: not all of them are built for every machine.
PEERS := $(VENV)/.installed-peers

$(PEERS): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	@touch $(PEERS)

bench: $(PEERS)
	$(BIN)/python -m pytest bench --benchmark-only --long --write $(ARGS)

bench-short: $(PEERS)
	$(BIN)/python -m pytest bench --benchmark-only $(ARGS)

chaos: setup
	$(BIN)/python -m pytest chaos --scale bounded $(ARGS)

soak: setup
	$(BIN)/python -m pytest chaos --scale full --write $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
