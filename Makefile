# Two commands matter: `make demo` and `make test`. Each sets up a local virtual environment first, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test check protos clean

demo: $(STAMP)  ## serve the pocket model on a local Ray and stream 20 s with a cue to demo.mp4
	$(BIN)/longtake demo

test: $(STAMP)  ## every test that needs no GPU
	$(BIN)/python -m pytest

check: $(STAMP)  ## static checks
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint
	$(BIN)/python protos/generate.py --check

protos: $(STAMP)  ## generate the code of the wire protocols again
	$(BIN)/python protos/generate.py

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[server,dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
