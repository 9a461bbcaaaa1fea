# make demo    the whole path on real input           make test      all checks, in six minutes on two cores
# make test-all   with the slow proofs                 make readers   other simulators, for `pascal-nm interop`
# make simulators  software of chips' vendors, for `pascal-nm verify BUNDLE --simulator`
# make wheel-test  build, install into a bare environment, and run there what a user gets
# make test-python PY=python3.12   the tests on another Python     make cross-checks   SANA-FE and NeuroBench count the same
# make test-lava   Lava's own tests, with and without this package's mends; PY=python3.12 as above
# make mutants MODULES="schedule bounds"   faults put into the package: do the tests nearby find them?
# make docs       the documentation as a site: site/html/index.html      make clean   remove what these targets made
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS := requirements/constraints-$(VERSION).txt
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: docs mutants test-python test-lava demo test test-all lint types readers simulators wheel-test clean cross-checks

demo: $(STAMP)
	$(BIN)/pascal-nm demo

# Each core takes whole files; torch then has one thread in each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile

test: lint types
	$(PYTEST)

test-all: lint types
	EXPLORE=1 $(PYTEST) -m ''

# `make test-python PY=python3.12`: the tests on another Python, in an environment of its own.
test-python:
	$(MAKE) PYTHON=$(PY) VENV=.venv-$(notdir $(PY)) test

# The tests lie in Lava's wheel. `make test-lava LAVA="proc/lif --only with"`: some files, one way.
ifneq ($(PY),)
test-lava:
	$(MAKE) PYTHON=$(PY) PY= VENV=.venv-$(notdir $(PY)) test-lava
else
test-lava: $(STAMP)
	$(BIN)/python tests/lava_tests.py $(LAVA)
endif

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(STAMP)
	$(BIN)/mypy

# Lava 0.10.0 declares Python 3.10 only, and is archived: it is installed without its dependencies, which come first.
$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -q -c $(CONSTRAINTS) -e '.[data,dev]' 'asteval<0.10' scipy networkx
	$(PIP) install -q --no-deps --ignore-requires-python lava-nc==0.10.0
	touch $@

# Other simulators for `pascal-nm interop`, each in an environment of its own that borrows torch from ours. Sinabs pins an old nir.
readers: $(STAMP)
	for reader in norse snntorch spikingjelly sinabs; do \
	  $(PYTHON) -m venv .readers/$$reader && \
	  $(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	    > .readers/$$reader/lib/python$(VERSION)/site-packages/borrowed.pth; done
	.readers/norse/bin/pip install -q --no-deps norse==1.1.0 nirtorch==2.6
	.readers/snntorch/bin/pip install -q --no-deps snntorch==1.0.0 nirtorch==2.6
	.readers/spikingjelly/bin/pip install -q --no-deps spikingjelly==2.0.0 nirtorch==2.6 loguru==0.7.3 \
	  requests==2.32.5 urllib3==2.5.0 charset-normalizer==3.4.3 certifi==2025.8.3
	.readers/sinabs/bin/pip install -q --no-deps sinabs==3.1.3 nir==1.0.4 nirtorch==1.0 pbr samna

# Software of chips' vendors, each in an environment of its own, under its own licence: NengoLoihi (Apache 2.0, Applied Brain Research)
# with Nengo (free for non-commercial use), akida (proprietary, BrainChip).
simulators:
	$(PYTHON) -m venv .simulators/nengo-loihi && $(PYTHON) -m venv .simulators/akida
	.simulators/nengo-loihi/bin/pip install -q nengo-loihi==1.1.0 nengo==3.2.0 numpy==1.26.4 scipy==1.12.0
	.simulators/akida/bin/pip install -q akida==2.19.3 numpy==2.4.6

# Faults put into the package one at a time (tests/mutants.py). `make mutants MODULES=bounds SHARE=0.2`: one module, a fifth of its faults.
SHARE ?= 1
mutants: $(STAMP)
	$(PYTHON) -m venv .readers/mutants
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > .readers/mutants/lib/python$(VERSION)/site-packages/borrowed.pth
	.readers/mutants/bin/pip install -q --no-deps mutmut==3.8.1 libcst==1.9.0
	OMP_NUM_THREADS=1 .readers/mutants/bin/python tests/mutants.py --share $(SHARE) $(MODULES)

# A link to nowhere, or a page that no other leads to, is an error.
docs: $(STAMP)
	$(PIP) install -q -c $(CONSTRAINTS) -e '.[docs]'
	$(BIN)/python -m sphinx -q -W --keep-going docs site/html

# The wheel as a user installs it, but with the dependencies of our environment, lent after the installation and not copied: torch is large.
# The wheel is built from the source distribution, and run outside the repository, so that nothing but its own files can be found.
wheel-test: $(STAMP)
	rm -rf .wheel && $(PYTHON) -m venv .wheel/builder && $(PYTHON) -m venv .wheel/bare
	.wheel/builder/bin/pip install -q build
	.wheel/builder/bin/python -m build -q --outdir .wheel/dist .
	.wheel/bare/bin/pip install -q --no-deps .wheel/dist/*.whl
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > .wheel/bare/lib/python$(VERSION)/site-packages/borrowed.pth
	mkdir .wheel/run && cd .wheel/run && ../bare/bin/pascal-nm --version && ../bare/bin/pascal-nm demo --help \
	  && ../bare/bin/pascal-nm demo -o run \
	  && ../bare/bin/python -Ic 'import pascal_nm, sys; sys.exit(not pascal_nm.__file__.startswith(sys.prefix))'

# Independent programs that count the same: SANA-FE (energy and hops of Loihi 1), NeuroBench (synaptic operations).
cross-checks: $(STAMP)
	$(PYTHON) -m venv .readers/checks
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > .readers/checks/lib/python$(VERSION)/site-packages/borrowed.pth
	.readers/checks/bin/pip install -q --no-deps sanafe==2.2.9 neurobench==2.3.0 snntorch==1.0.0 tqdm
	.readers/checks/bin/python -m pytest tests/cross_checks

clean:
	rm -rf $(VENV) .readers .simulators .wheel site build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
