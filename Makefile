# make demo   install into .venv, fetch real recordings, mine them, print how good the result is
# make test   the tests, but for the slow ones
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUTPUT ?= runs/demo
# tests of a file run one after the other, files side by side
TESTS_AT_ONCE ?= $(shell nproc 2> /dev/null || echo 2)
# of the slow ones two more: those of stores and Slurm mostly wait
SLOW_AT_ONCE ?= $(shell expr $(TESTS_AT_ONCE) + 2)
# those whose files take longest begin first
LONGEST := $(addprefix tests/,faults/test_s3.py faults/test_slurm_faults.py pipelines/documents/test_documents_run.py \
	pipelines/test_demo.py pipelines/test_slurm_training.py pipelines/test_beam_run.py faults/test_rework.py \
	training/unity/test_translate.py)
# files that have slow tests, which tests/conftest.py makes sure of
SLOW = $(shell grep -rl "mark\.slow" --include="test_*.py" tests | sort)
PYTEST := $(BIN)/python -m pytest --dist loadfile -n
# what is compiled once is kept, wherever that is switched off: tests start hundreds of processes
export PYTHONDONTWRITEBYTECODE :=
# threads that wait for each other do not turn a core meanwhile: others want it
export OMP_WAIT_POLICY ?= PASSIVE
export SEAMLESSALIGN_DEMO_CACHE ?= $(CURDIR)/.cache

.PHONY: demo test test-slow test-thorough lint types check data install clean

demo: install
	$(BIN)/seamlessalign demo --output $(DEMO_OUTPUT)

test: install
	$(PYTEST) $(TESTS_AT_ONCE) -m "not slow"

test-slow: install data
	$(PYTEST) $(SLOW_AT_ONCE) --no-loadscope-reorder -m "slow and not thorough" $(LONGEST) $(SLOW)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

check: lint types test test-slow

# all slow tests, and faults at every moment, of which test-slow tries a sample: an hour or two
test-thorough: install data
	SEAMLESSALIGN_THOROUGH=1 $(PYTEST) $(TESTS_AT_ONCE) -m slow $(SLOW)

# the human speech that some tests use
data: install
	$(BIN)/python -c "from pathlib import Path; from seamlessalign.pipelines.demo_data import fetch_prompts; fetch_prompts(Path('$(SEAMLESSALIGN_DEMO_CACHE)'))"

install: $(VENV)/installed

$(VENV)/installed: setup.cfg setup.py pyproject.toml mining/scan.cpp
	command -v c++ > /dev/null || apt-get install -y g++
	$(PYTHON) -m venv $(VENV) || { apt-get install -y python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/pip install --upgrade "pip>=23" "setuptools>=70" wheel
	$(BIN)/pip install --no-compile --no-build-isolation -e ".[embedded,dev,s3]"
# pip would compile on one core; a package may have files that are none of this Python's
	$(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null 2>&1 || true
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
