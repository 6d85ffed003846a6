# Two commands matter: `make reproduce` and `make test`. All they need lands in .venv.
# Written for POSIX sh and for GNU make 3.81, the one that macOS ships.

PYTHON ?= python3
ARGS ?=
RUN := .venv/bin/python

# Containers often set this. Without compiled files each process compiles torch and the rest anew, for ten seconds.
unexport PYTHONDONTWRITEBYTECODE

# A stamp is named after a checksum of what it was made from: new dates on old files rebuild nothing, and a folder
# that was moved is installed again. It is written last, so an install that was cut short leaves none.
LOCKED := .venv/.locked-$(shell cksum < requirements.lock | tr ' ' '-')
INSTALLED := .venv/.installed-$(shell { cat pyproject.toml; pwd; } | cksum | tr ' ' '-')

# The notebooks' texts: the paper's, those that go further, and the lecture.
PAIRS := $(sort $(wildcard notebooks/*.py)) $(sort $(wildcard notebooks/beyond/*.py)) \
  $(wildcard notebooks/exercises/lecture.py)

# The Python that .venv was made with may have gone since (an upgrade): then .venv is made again.
$(shell test -x $(RUN) || rm -f .venv/.locked-*)

# Says which interpreter makes .venv. Inside an activated .venv that is the one below it, for .venv is about to go.
define CHECK_PYTHON
import sys
if sys.version_info[:3] < (3, 11, 4):
    sys.exit("Python 3.11.4 or newer is needed and $(PYTHON) is %d.%d.%d; name another, as in: make PYTHON=python3.12"
             % sys.version_info[:3])
try:
    import ensurepip, venv
except ImportError:
    sys.exit("$(PYTHON) cannot make virtual environments; install its venv module (Debian, Ubuntu: apt install "
             "python3-venv) or name another Python, as in: make PYTHON=python3.12")
print(getattr(sys, "_base_executable", sys.executable))
endef
export CHECK_PYTHON

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test bench lab networks notebooks exercises slides pairs lock clean

help:  ## list the targets
	@echo 'make TARGET [ARGS="..."] [PYTHON=python3.12]'
	@sed -n 's/^\([a-z]*\):.*  ## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

setup: $(INSTALLED)  ## make .venv with the locked packages and paperlib (reproduce, test and lab do this first)

reproduce: $(INSTALLED)  ## run the paper's notebooks into figures/run/; ARGS=--all for every one, ARGS="--only 02 07"
	$(RUN) -m paperlib reproduce $(ARGS)

test: $(INSTALLED)  ## ruff, then the tests; ARGS="-k kmex" for some of them
	$(RUN) -m ruff check .
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 2 --dist loadgroup --no-loadscope-reorder $(ARGS)

bench: $(INSTALLED)  ## measure what explaining and clustering cost, into figures/bench.md; ARGS="--only explain"
	$(RUN) -m tests.bench $(ARGS)

lab: $(INSTALLED)  ## open JupyterLab on the notebooks; saving one writes its .py too
	$(RUN) -m jupyterlab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks $(ARGS)

networks: $(INSTALLED)  ## train the networks of data/networks anew, beside them; ARGS="--only birds-cnn-0 --out DIR"
	$(RUN) -m paperlib networks $(ARGS)

notebooks: $(INSTALLED)  ## run the notebooks in place and refresh figures/, both as committed; ARGS=notebooks/02_*.ipynb
	$(RUN) -m jupytext --quiet --to ipynb --update $(PAIRS)
	PAPERLIB_OUT="$(CURDIR)/figures" TQDM_DISABLE=1 $(RUN) -m nbconvert --to notebook --execute --inplace \
	  --ExecutePreprocessor.record_timing=False $(if $(ARGS),$(ARGS),$(PAIRS:.py=.ipynb))
	$(RUN) -c 'from paperlib.runs.report import write_tables; write_tables("figures")'

slides: $(INSTALLED)  ## write the lecture as slides, figures/run/lecture.html and .pdf, from the notebook as saved
	$(RUN) notebooks/exercises/slides.py $(ARGS)

exercises: $(INSTALLED)  ## write the students' notebooks from the solved ones; ARGS=--pictures for their hints, too
	$(RUN) notebooks/exercises/write.py $(ARGS)

pairs: $(INSTALLED)  ## bring each .ipynb up to its .py, keeping outputs; fails if one was behind
	$(RUN) -m jupytext --to ipynb --update $(PAIRS)
	@git diff --exit-code --stat -- 'notebooks/*.ipynb' || \
	  { echo 'These notebooks differ from what git holds; run them again and add both files of the pair.' >&2; exit 1; }

lock: $(LOCKED)  ## work out requirements.lock again after pyproject.toml changed; ARGS=--upgrade for newer versions
	.venv/bin/uv pip compile --universal --generate-hashes --no-emit-index-url --no-annotate --no-header \
	  --python-version 3.11 --group dev pyproject.toml --output-file requirements.lock --quiet $(ARGS)

clean:  ## delete .venv, the tools' caches and build leftovers; data/ (with data/cache) and figures/ stay
	rm -rf .venv .pytest_cache .ruff_cache build dist *.egg-info
	find paperlib tests notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

# What Python and UMAP would compile at their first use, in a minute, and again in each process that begins meanwhile.
define COMPILE
import numpy
from paperlib.figures import project
project(numpy.random.default_rng(0).random((64, 8)), numpy.zeros((2, 8)))
endef
export COMPILE

# The stamp goes before the rest, so that half a .venv never passes for a whole one. pip fetches only uv, by its
# hash; uv fetches the rest faster than pip would, each by its hash.
$(LOCKED):
	@command -v "$(PYTHON)" >/dev/null || { echo 'There is no $(PYTHON) here; install Python 3.11.4 or newer,' \
	  'or name yours, as in: make PYTHON=python3.12' >&2; exit 1; }
	@python=$$("$(PYTHON)" -c "$$CHECK_PYTHON") && rm -f .venv/.locked-* && rm -rf .venv && \
	  echo "Making .venv with $$python. The first time this fetches some gigabytes." && "$$python" -m venv .venv
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.txt
	.venv/bin/uv pip sync --python $(RUN) --require-hashes requirements.lock
	@echo 'Compiling what the first run would wait for; a minute or less.'
	@$(RUN) -c 'import paperlib.runs.ready' & $(RUN) -W ignore -c "$$COMPILE" && wait && touch $@

$(INSTALLED): $(LOCKED)
	@rm -f .venv/.installed-*
	.venv/bin/uv pip install --python $(RUN) --quiet --offline --reinstall --no-deps --no-build-isolation --editable .
	@touch $@
