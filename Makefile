# make demo and make test need nothing but Python 3.11 or newer: they make the virtual environment themselves.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
export HF_HUB_OFFLINE ?= 1
# make images needs podman or docker instead, and no Python.
ENGINE ?= $(notdir $(firstword $(shell command -v podman docker)))
SECONDS := 60
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGES ?= evalctl openai-proxy openai-gateway evaluator embedder-cpu embedder-cuda

.PHONY: demo test bench check protos docs chart format clean images images-test pins version soak bench-quick fuzz chaos

demo: $(INSTALLED)  ## Start everything, evaluate three models in five languages, print a table, draw a chart, stop.
	@EMBEDSCALE_HOME="$${EMBEDSCALE_HOME:-$(CURDIR)/.embedscale}" exec $(BIN)/evalctl demo

test: $(INSTALLED)  ## Run all tests.
	$(BIN)/python -m pytest

soak: $(INSTALLED)  ## Answer REQUESTS (200,000) mixed requests right, in flat memory, files, threads and time; SEED repeats a run.
	$(BIN)/python -m tests.soak $(if $(REQUESTS),--requests $(REQUESTS)) $(if $(SEED),--seed $(SEED)) $(SOAK_OPTIONS)

bench: $(INSTALLED)  ## Run all benchmarks, about an hour, compare them with the kept results, and write tables and pictures; BENCH are options.
	$(BIN)/python -m benchmarks $(BENCH)

bench-quick: $(INSTALLED)  ## Run the shortest form of every benchmark's program, within five minutes, to see that it runs.
	$(BIN)/python -m benchmarks --quick $(BENCH)

fuzz: $(INSTALLED)  ## Fuzz TARGETS, by default all, guided by coverage, for SECONDS each; SEED=N repeats a run.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=3.0'
	@exec $(BIN)/python -m tests.fuzz $(TARGETS) --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

chaos: $(INSTALLED)  ## Strike every part of a cluster in every way while it works, about 25 minutes; SEED=n repeats, CELLS chooses.
	$(BIN)/python -m tests.chaos --picture docs/images/chaos.png

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

images:  ## Build IMAGES, by default all, with podman or docker; IMAGE_OPTIONS are further options of its build.
	@for image in $(IMAGES); do \
	  $(ENGINE) build --file deploy/docker/Dockerfile --target "$$image" --tag "embedscale/$$image:$(VERSION)" \
	    --label org.opencontainers.image.version=$(VERSION) \
	    --label org.opencontainers.image.revision="$$(git rev-parse HEAD)" $(IMAGE_OPTIONS) . || exit 1; \
	done

images-test: $(INSTALLED)  ## Build the images and run them, locked down, with podman: about ten minutes, and 10 GB in .images.
	$(BIN)/python -m pytest -m images tests/images

pins: $(INSTALLED)  ## Write the versions that images install, to be done when dependencies change.
	$(BIN)/python deploy/docker/pin.py "$(TORCH)"

version: $(INSTALLED)  ## Write the version of pyproject.toml into the chart, compose.yaml and the guides.
	$(BIN)/python deploy/write_version.py

clean:  ## Remove what was built and what the demo keeps.
	rm -rf $(VENV) .embedscale .bench .fuzz dist
	find protos -name '*_pb2*.py*' -delete

$(INSTALLED): pyproject.toml hatch_build.py $(wildcard protos/embedscale/v1/*.proto)
	@echo "installing into $(VENV): some minutes, and 4 GB, most of it torch and the tests' libraries"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
