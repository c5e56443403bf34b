# Every habit of the project in one place: `make` or `make help` lists them.
# Written for GNU make 3.81 (macOS) and newer. VENV, PYTHON, JOBS, SLOW, QUICK, UPGRADE and the soak's
# MINUTES, KILLS (at least so many), SEED and DATABASE may be given.

VENV ?= .venv
RUN := $(VENV)/bin/python
JOBS ?= 3
MINUTES ?= 4
KILLS ?= 0
SEED ?= 1
DATABASE ?= sqlite

# A machine may forbid bytecode files; without them every process start compiles scikit-learn anew.
unexport PYTHONDONTWRITEBYTECODE PYTHONPATH PYTHONHOME

# onnxruntime reports to its maker, and leaves a device id in the home, unless told not to.
export ORT_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo serve test check fix acceptance faults soak openapi docs lock wheel clean runtime dev

help: ## List the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: runtime ## Start the server, run the main job over HTTP, show every call, stop
	@$(RUN) -m app demo

serve: runtime ## Run the server on http://127.0.0.1:8080 until Ctrl-C, with the demo's key if there is one
	@if [ -z "$${MODELYARD_ADMIN_KEY:-}" ] && [ -s instance/demo.key ]; then \
	  MODELYARD_ADMIN_KEY=$$(cat instance/demo.key); export MODELYARD_ADMIN_KEY; \
	fi; exec $(RUN) -m app serve

test: dev ## Run all tests that need only Python and its packages (SLOW=1: the quick acceptance, too)
	$(RUN) -m pytest -n $(JOBS) --dist worksteal -m "$(if $(SLOW),not (slow and long),not slow)"

check: dev ## Format, lint, types, import rules; spec, reference and diagram drift
	$(RUN) -m ruff format --check .
	$(RUN) -m ruff check .
	$(RUN) -m mypy app tools
	$(RUN) -c "from importlinter.cli import lint_imports_command as c; c()" --no-logo
	$(RUN) -m app openapi | diff -u openapi.yaml -
	$(RUN) -m tools.reference --check
	$(RUN) -m tools.diagram --check

fix: dev ## Format, and mend what ruff can mend
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

acceptance: dev ## Run the slow tests too (QUICK=1 leaves out the longest)
	$(RUN) -m pytest -n $(JOBS) --dist worksteal -m "slow$(if $(QUICK), and not long)"

faults: dev ## Try every fault of the matrix many times: kills, full disks, outages, stopped clocks
	FAULTS=full $(RUN) -m pytest -n $(JOBS) --dist worksteal -m fault --timeout 900

soak: dev ## Mixed load and random kills, then what must hold (MINUTES KILLS SEED DATABASE=sqlite|postgres)
	$(RUN) -m tests.soak --minutes $(MINUTES) --kills $(KILLS) --seed $(SEED) --database $(DATABASE)

openapi: dev ## Regenerate openapi.yaml, then the reference that follows from it
	$(RUN) -m app openapi > openapi.yaml.new
	mv openapi.yaml.new openapi.yaml
	$(RUN) -m tools.reference

docs: dev ## Regenerate docs/reference and docs/diagram.svg from the code and openapi.yaml
	$(RUN) -m tools.reference
	$(RUN) -m tools.diagram

lock: ## Resolve pyproject.toml into the two locks (UPGRADE=1 takes the newest versions)
	@tools/lock.sh "$(VENV)" "$(PYTHON)" $(if $(UPGRADE),--upgrade)

wheel: dev ## Build the wheel into dist/
	$(RUN) -m pip wheel -q --no-deps --no-build-isolation --wheel-dir dist .

clean: ## Remove the venv, build products and caches; data stays
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find app migrations tests tools -name __pycache__ -prune -exec rm -rf {} +

runtime:
	@tools/venv.sh "$(VENV)" requirements.lock "$(PYTHON)"

dev:
	@tools/venv.sh "$(VENV)" requirements-dev.lock "$(PYTHON)"
