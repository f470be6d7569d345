# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv first, with the tested versions.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo pictures search docs test test-slow test-shuffled fuzz kills mutations power-cuts test-settings lint format benchmarks clean
MINUTES ?= 30
WORKERS ?= 2
ROUNDS ?= 3
N ?= 100
SEED ?= 0

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13) and "clep needs Python 3.11 to 3.13; choose one with PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all]'
	touch $@

demo: $(READY)          ## preprocess, train and evaluate on a small synthetic dataset
	HF_HUB_OFFLINE=1 $(BIN)/python train.py

pictures: $(READY)      ## renew README's pictures from the latest run of experiment=demo_video
	HF_HUB_OFFLINE=1 $(BIN)/python docs/images/pictures.py

search: $(READY)        ## search page of synthetic videos: draws, encodes and trains the first time (about 8 minutes)
	test -f runs/search/model/model.safetensors || HF_HUB_OFFLINE=1 $(BIN)/python train.py experiment=demo_video hydra.run.dir=runs/search
	HF_HUB_OFFLINE=1 $(BIN)/python -m clep.search model=runs/search videos=data/demo_video/ego4d/videos

docs: $(READY)          ## documentation site in site/, with checked links; offline (the first time with two short trainings, about 2 minutes)
	HF_HUB_OFFLINE=1 $(BIN)/python docs/gallery.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

test: $(READY)          ## all tests that need no GPU, cluster or network
	PYTHONDONTWRITEBYTECODE= HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -q

test-slow: $(READY)     ## whole benchmarks at toy size, notebooks, more cases; property tests with more examples
	CLEP_SLOW_TESTS=1 CLEP_HYPOTHESIS=slow CLEP_TYPE_CHECKS=all HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 \
	  $(BIN)/python -m pytest -n 2 --dist worksteal -q -m "slow or hypothesis"

test-shuffled: $(READY) ## the whole suite in ROUNDS random orders: order must not matter
	for seed in $$(seq $(ROUNDS)); do CLEP_TYPE_CHECKS=all HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 \
	  $(BIN)/python -m pytest -n 2 -q \
	  --random-order --random-order-seed=$$seed || exit 1; done

fuzz: $(READY)          ## new examples for the property tests, for MINUTES minutes
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.fuzz minutes=$(MINUTES)

kills: $(READY)         ## kill jobs and trainings N times; adds to benchmarks/results/kills.json
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.drills.kills kills=$(N) seed=$(SEED)

mutations: $(READY)     ## damage files N times; adds to benchmarks/results/mutations.json
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.drills.mutations mutations=$(N) seed=$(SEED)

power-cuts: $(READY)    ## simulate N power cuts (root on Linux); adds to benchmarks/results/power_cuts.json
	HF_HUB_OFFLINE=1 $(BIN)/python -m tests.drills.power_cuts cuts=$(N) seed=$(SEED)

test-settings: $(READY) ## the whole suite under unusual settings: TMPDIR, user, folder, locale, few open files
	PYTHON=$(BIN)/python bash tests/drills/settings.sh

lint: $(READY)          ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)        ## rewrite files in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: $(READY)    ## measure everything; writes benchmarks/results/*.json
	$(BIN)/python -m benchmarks.run_all

clean:                  ## remove the environment and caches; data/ and runs/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist site .cache/gallery *.egg-info
