# make demo and make test need nothing but Python 3.11 or newer: they make the virtual environment themselves.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export HF_HUB_OFFLINE ?= 1

.PHONY: demo test bench check protos docs chart format clean

demo: $(INSTALLED)  ## Start everything, evaluate three models in five languages, print a table, draw a chart, stop.
	@EMBEDSCALE_HOME="$${EMBEDSCALE_HOME:-$(CURDIR)/.embedscale}" exec $(BIN)/evalctl demo

test: $(INSTALLED)  ## Run all tests.
	$(BIN)/python -m pytest

bench: $(INSTALLED)  ## Run all benchmarks, about an hour, and write their tables into docs/.
	$(BIN)/python -m benchmarks

check: $(INSTALLED)  ## Lint, type-check, and hold the wire against the last commit of main.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@collected=$$($(BIN)/python -m pytest --collect-only -qq 2>&1) || { echo "$$collected"; exit 1; }
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code
	@if git rev-parse --verify --quiet main:protos >/dev/null; \
	then $(BIN)/buf breaking --against '.git#branch=main'; \
	else echo "no branch main here to hold the wire against"; fi

protos: $(INSTALLED)  ## Generate the wire's Python code again (installing does it too).
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .

docs: $(INSTALLED)  ## Write docs/reference.md from the code, and docs/reference-chart.md from the chart.
	$(BIN)/python docs/generate_reference.py
	$(BIN)/python docs/generate_dashboard.py
	$(BIN)/python docs/generate_chart_reference.py

chart: $(INSTALLED)  ## Lint the Helm chart, render its examples, and hold them against Kubernetes, policies and the servers.
	$(BIN)/python -m pytest tests/deploy -k chart

format: $(INSTALLED)  ## Format the code.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/buf format --write

clean:  ## Remove what was built and what the demo keeps.
	rm -rf $(VENV) .embedscale .bench dist
	find protos -name '*_pb2*.py*' -delete

$(INSTALLED): pyproject.toml hatch_build.py $(wildcard protos/embedscale/v1/*.proto)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
