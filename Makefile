# Every target makes the virtual environment that it needs; nothing but Python 3.11 or later is assumed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TPU_VENV ?= $(VENV)-tpu
TPU_STAMP := $(TPU_VENV)/.installed
TRACKERS_VENV ?= $(VENV)-trackers
TRACKERS_STAMP := $(TRACKERS_VENV)/.installed
XPK_VENV ?= $(VENV)-xpk
XPK_STAMP := $(XPK_VENV)/.installed
HF_VENV ?= $(VENV)-hf
HF_STAMP := $(HF_VENV)/.installed
WORKDIR ?= out
SLURM ?= slurm

GALLERY := quickstart.py:debug data.py:debug repeats.py:debug cooldown.py:debug transfer.py:debug \
	double_descent.py:debug grokking.py:debug power_law.py:debug power_law.py:examples_debug \
	known_laws.py:associations_debug known_laws.py:seen_once_debug known_laws.py:parity_debug \
	entropy_floor.py:debug length.py:debug emergence.py:debug memorization.py:debug finetune.py:debug \
	shift.py:text_debug generalization_gap.py:debug recurrence.py:debug families.py:debug \
	pruning.py:debug quantization.py:debug distillation.py:debug lr_batch.py:debug \
	knowledge.py:debug continual.py:split_debug robustness.py:debug

.PHONY: demo gallery test test-slow test-exhaustive test-slurm test-tpu test-trackers test-xpk test-hf test-browser lint format golden ci clean docs notebooks

demo: $(STAMP)  ## the quick start study: train, fit, report
	$(BIN)/python launch.py sweep --experiment=experiments/quickstart.py --workdir=$(WORKDIR)

gallery: $(STAMP)  ## the small forms of all that docs/gallery.md shows
	@for study in $(GALLERY); do echo "== $$study"; $(BIN)/python launch.py sweep \
		--experiment=experiments/$$study --workdir=$(WORKDIR)/gallery || exit 1; done

test: $(STAMP)  ## the fast tests
	$(BIN)/python -m pytest -m "not slow and not exhaustive and not slurm and not tpu and not xpk and not hf and not browser and not trackers" -n 2 --dist loadfile

test-slow: $(STAMP)  ## the tests that take minutes
	$(BIN)/python -m pytest -m "slow and not exhaustive and not tpu" -n 2 --dist loadgroup

test-exhaustive: $(STAMP)  ## the rest: every product of mesh axes, the largest simulations; half an hour
	$(BIN)/python -m pytest -m "exhaustive and not slurm" -n 2

test-slurm: $(STAMP)  ## sweeps on a real Slurm of two virtual nodes here; needs root (tests/slurm/cluster.py)
	@$(BIN)/python tests/slurm/cluster.py start || exit 1; \
	trap '$(BIN)/python tests/slurm/cluster.py stop' EXIT; \
	$(BIN)/python -m pytest -m "$(SLURM)" tests/slurm

test-tpu: $(TPU_STAMP)  ## programs for TPUs, compiled without one; an environment of 2 GB of its own
	$(TPU_VENV)/bin/python -m pytest -m tpu tests/check tests/exchange

test-xpk: $(STAMP) $(XPK_STAMP)  ## commands for TPU pods, read by the real xpk; an environment of its own
	XPK=$(abspath $(XPK_VENV))/bin/xpk $(BIN)/python -m pytest -m xpk tests/executors

test-hf: $(STAMP) $(HF_STAMP)  ## weights from and for transformers, the real one; an environment of its own
	HF=$(abspath $(HF_VENV))/bin/python $(BIN)/python -m pytest -m hf tests/exchange

test-browser: $(STAMP)  ## the report in a headless Chromium, the text of its PDFs; installs them (root)
	$(BIN)/python tests/debian.py chromium=chromium chromedriver=chromium-driver pdftotext=poppler-utils
	$(BIN)/python -m pytest -m browser tests/report

test-trackers: $(TRACKERS_STAMP)  ## the real packages of trackers, offline; an environment of its own
	$(TRACKERS_VENV)/bin/python -m pytest -m trackers tests/trackers

docs: $(STAMP)  ## a site of the pages and of the library's docstrings; a link that leads nowhere fails
	$(BIN)/python -m pip install --quiet --editable '.[docs]' --constraint constraints.txt
	$(BIN)/python -m sphinx -q -W -b html -c docs/site . $(WORKDIR)/site
	@echo "wrote $(WORKDIR)/site/docs/site/index.html"

notebooks: $(STAMP)  ## runs docs/notebooks/*.py, and writes them as notebooks with what they show
	$(BIN)/python -m pip install --quiet --editable '.[docs]' --constraint constraints.txt
	PATH=$(abspath $(BIN)):$$PATH PYTHONPATH=$(CURDIR) $(BIN)/jupytext --to ipynb --execute --run-path=. docs/notebooks/*.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

golden: $(STAMP)  ## rewrite the stored resolved configs; read the diff
	$(BIN)/python tests/golden.py

ci: lint test test-slow test-slurm test-browser test-tpu test-xpk test-hf

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or later is needed; give one with make PYTHON=...')"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $(STAMP)

$(TPU_STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TPU_VENV)
	$(TPU_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(TPU_VENV)/bin/python -m pip install --quiet --editable '.[tpu,dev]' --constraint constraints.txt
	touch $(TPU_STAMP)

# trackio wants an older pillow than the one that is pinned.
$(TRACKERS_STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(TRACKERS_VENV)
	$(TRACKERS_VENV)/bin/python -m pip install --quiet --upgrade pip
	grep -v '^pillow==' constraints.txt > $(TRACKERS_VENV)/constraints.txt
	$(TRACKERS_VENV)/bin/python -m pip install --quiet --editable '.[trackers,dev]' --constraint $(TRACKERS_VENV)/constraints.txt
	touch $(TRACKERS_STAMP)

# It moves packages that the project pins, so it is never beside them.
$(XPK_STAMP): constraints-xpk.txt
	$(PYTHON) -m venv $(XPK_VENV)
	$(XPK_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(XPK_VENV)/bin/python -m pip install --quiet xpk --constraint constraints-xpk.txt
	touch $(XPK_STAMP)

# It has torch, which no run needs.
$(HF_STAMP): constraints-hf.txt
	$(PYTHON) -m venv $(HF_VENV)
	$(HF_VENV)/bin/python -m pip install --quiet --upgrade pip
	$(HF_VENV)/bin/python -m pip install --quiet torch transformers --constraint constraints-hf.txt
	touch $(HF_STAMP)

clean:
	rm -rf $(VENV) $(TPU_VENV) $(TRACKERS_VENV) $(XPK_VENV) $(HF_VENV) .cache .mypy_cache .pytest_cache .ruff_cache
