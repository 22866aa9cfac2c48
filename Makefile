# Each target makes its own environment from nothing: Python 3.11 or later and make are all it takes.
PYTHON ?= python3
ENV := .venv
BIN := $(ENV)/bin
READY := $(ENV)/.ready

.PHONY: demo test test-slow test-all test-gpu test-cuda-build test-commands test-page test-versions test-lowest test-newest dist lint bench bench-gpu bench-lammps interop docs tutorial test-engines clean

# torch first and alone: an exact version finds the CPU build where one is offered. TF=tf-gpu takes TensorFlow with CUDA
TF ?= tf
$(READY): pyproject.toml constraints.txt
	@echo "[1/3] $(ENV): an environment of its own, 3 GB when it is complete; nothing outside of it changes"
	@$(PYTHON) -m venv $(ENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "[2/3] torch, 0.8 GB: minutes, as long as the download takes"
	@$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	@echo "[3/3] TensorFlow, 1.3 GB, and 90 small packages, 0.9 GB: again minutes"
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[torch,$(TF),ase,plot,report,dev]'
	@touch $(READY)
	@echo "$(ENV) is complete: $$(du -sh $(ENV) | cut -f1)"

demo: $(READY)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(BIN)/python examples/water/demo.py

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# one process a core and one thread a process: tests are small; those of a class share its graphs and stay together. In the
# order of the files, because the longest modules have few tests, and would come last in the order of xdist
DIST := --dist loadscope --no-loadscope-reorder
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto $(DIST) -m "not slow"

# the rest of them: every conversion of every kind, TensorFlow for every option, the longest trainings
test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto $(DIST) -m slow

# torch's on a CUDA device, with the tolerances of the others; without a device they say so and are skipped
GPU_WORKERS ?= 4
test-gpu: $(READY)
	DEVICE=cuda OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(GPU_WORKERS) $(DIST) -m "gpu and not slow"

# both
test-all: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto $(DIST)

# The unit tests with the lowest versions that pyproject.toml names and with the newest. Where no torch without CUDA is
# offered for the newest Python, EXTRAS_newest=tf,ase,plot,test leaves torch out; its tests are skipped then.
PYTHON_lowest ?= python3.11
PYTHON_newest ?= python3.13
EXTRAS_lowest := torch,tf,ase,plot,test
EXTRAS_newest ?= $(EXTRAS_lowest)
WORKERS ?= auto
test-versions: test-lowest test-newest
test-lowest test-newest: test-%: .venv-%/.ready
	OMP_NUM_THREADS=1 .venv-$*/bin/python -m pytest -q -n $(WORKERS) $(DIST) -m "not slow" tests/unit

.PRECIOUS: .venv-%/.ready
.venv-%/.ready: constraints-%.txt pyproject.toml
	$(PYTHON_$*) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet -c $< -e '.[$(EXTRAS_$*)]'
	touch $@

# wheel and sdist, each proved in an environment with nothing but its required dependencies
dist:
	rm -rf dist .venv-dist
	$(PYTHON) -m venv .venv-dist/build
	.venv-dist/build/bin/python -m pip install --quiet build
	.venv-dist/build/bin/python -m build --outdir dist
	for kind in whl tar.gz; do \
	  $(PYTHON) -m venv .venv-dist/$$kind && .venv-dist/$$kind/bin/python -m pip install --quiet -c constraints.txt dist/*.$$kind && \
	  .venv-dist/$$kind/bin/python tests/dist/prove.py || exit 1; \
	done

# DeePMD-kit lives apart: in an environment that DEEPMD_KIT_ENV names, or in one made here. BENCH_OURS_ONLY=1 does without.
# BENCH holds options of benchmarks/run.py, gpu.py and lammps.py, INTEROP those of pytest.
KIT := .venv-deepmd-kit
GPU_KIT := .venv-deepmd-kit-gpu
ifneq ($(BENCH_OURS_ONLY),1)
ifndef DEEPMD_KIT_ENV
bench bench-lammps interop test-commands: export DEEPMD_KIT_ENV := $(KIT)
bench bench-lammps interop test-commands: $(KIT)/.ready
bench-gpu: export DEEPMD_KIT_ENV := $(GPU_KIT)
bench-gpu: $(GPU_KIT)/.ready
endif
endif

$(KIT)/.ready: KIT_EXTRAS := cpu,torch,lmp
$(GPU_KIT)/.ready: KIT_EXTRAS := gpu,cu12,torch,lmp
$(KIT)/.ready $(GPU_KIT)/.ready:
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade pip
	$(@D)/bin/python -m pip install --quiet 'deepmd-kit[$(KIT_EXTRAS)]==3.2.0' nvidia-cuda-runtime-cu12
	touch $@

bench: $(READY)
	$(BIN)/python benchmarks/run.py $(BENCH)

# on a CUDA device; without one on the processor, at the smallest size
bench-gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py $(BENCH)

bench-lammps: $(READY)
	$(BIN)/python benchmarks/lammps.py $(BENCH)

# DP-GEN with GFN1-xTB in the place of a DFT code, in an environment that DPGEN_ENV names or in one made here
DPGEN := .venv-dpgen
ifndef DPGEN_ENV
interop: $(DPGEN)/.ready
endif
$(DPGEN)/.ready:
	$(PYTHON) -m venv $(DPGEN)
	$(DPGEN)/bin/python -m pip install --quiet dpgen==0.14.0 tblite==0.8.0
	touch $@

# Their Python and LAMMPS with our files, ours with theirs, DP-GEN with our dp; then the table of docs/interop.md.
interop: $(READY)
	$(BIN)/python -m pytest -q tests/interop $(INTEROP)
	$(BIN)/python tests/interop/table.py

# A build of torch for CUDA beside TensorFlow, in an environment of its own. It needs no GPU. uv takes that build where
# pip takes the one for processors; make test-cuda-build CUDA_TESTS=tests/unit runs other tests there.
CUDA_BUILD := .venv-cuda-build
CUDA_TESTS ?= tests/cuda_build
$(CUDA_BUILD)/.ready: constraints.txt pyproject.toml
	$(PYTHON) -m venv $(CUDA_BUILD)
	$(CUDA_BUILD)/bin/python -m pip install --quiet uv
	$(CUDA_BUILD)/bin/uv pip install --quiet --python $(CUDA_BUILD)/bin/python torch==2.13.0
	$(CUDA_BUILD)/bin/uv pip install --quiet --python $(CUDA_BUILD)/bin/python -c constraints.txt -e '.[torch,tf,ase,plot,test]'
	touch $@

test-cuda-build: $(CUDA_BUILD)/.ready
	OMP_NUM_THREADS=1 $(CUDA_BUILD)/bin/python -m pytest -q -n $(WORKERS) $(DIST) -m "not slow" $(CUDA_TESTS)

# the site, in build/site; a wrong link is an error
$(ENV)/.docs: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	touch $@

docs: $(ENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# the page docs/tutorial.md as it stands
tutorial: $(READY)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} PATH=$(CURDIR)/$(BIN):$$PATH $(BIN)/python docs/run_page.py docs/tutorial.md

# every command that README, docs, examples and this file name, at its smallest size
test-commands: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/commands

# torch-sim, metatomic and i-PI run our models, and the examples of examples/engines
test-engines: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[engines]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/unit/test_engines.py

# the report page in Chromium without a window (Debian: apt install chromium)
test-page: $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[browser]'
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/commands/test_page.py

clean:
	rm -rf $(ENV) demo
