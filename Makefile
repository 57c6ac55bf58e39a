# make gate: set-up and the main job.  make test: set-up and the tests.  Everything lives in .venv and .collabcode.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
MODEL := .collabcode/models/smollm2-135m
REGIMES := centralized,fedavg,fedyogi,incremental:meta>microsoft>google,incremental:google>microsoft>meta
MORE_REGIMES := local:meta,local:microsoft,local:google,incremental:meta>google>microsoft,incremental:microsoft>meta>google,incremental:microsoft>google>meta,incremental:google>meta>microsoft

.PHONY: gate regimes test lint bench fetch clean

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

fetch: $(INSTALLED)
	$(BIN)/collabcode fetch

gate: fetch
	$(BIN)/pytest suites/ --model=$(MODEL) --collabcode-regime='$(REGIMES)' --collabcode-report=json:.collabcode/gate.json

regimes: fetch
	$(BIN)/pytest suites/ --collabcode-regime='$(REGIMES),$(MORE_REGIMES)' --collabcode-report=json:.collabcode/regimes.json

test: $(INSTALLED)
	$(BIN)/collabcode fetch --only=consortium
	$(BIN)/pytest tests/ pytest_collabcode/ --doctest-modules --ignore=tests/benchmarks -q

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/pytest tests/benchmarks --benchmark-only

clean:
	rm -rf $(VENV) .collabcode build dist *.egg-info
