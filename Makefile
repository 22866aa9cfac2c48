# Each target makes its own environment from nothing: Python 3.11 or later and make are all it takes.
PYTHON ?= python3
ENV := .venv
BIN := $(ENV)/bin
READY := $(ENV)/.ready

.PHONY: demo test test-slow lint bench bench-lammps interop clean

# torch first and alone: an exact version finds the CPU build where one is offered
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(ENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[torch,tf,ase,plot,dev]'
	touch $(READY)

demo: $(READY)
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} $(BIN)/python examples/water/demo.py

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# one process a core and one thread a process: tests are small; those of a class share its graphs and stay together
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadscope -m "not slow"

# the rest of them: every conversion of every kind, the longest trainings
test-slow: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadscope -m slow

# DeePMD-kit lives apart: in an environment that DEEPMD_KIT_ENV names, or in one made here. BENCH_OURS_ONLY=1 does without.
# BENCH holds options of benchmarks/run.py and benchmarks/lammps.py, INTEROP those of pytest.
KIT := .venv-deepmd-kit
ifneq ($(BENCH_OURS_ONLY),1)
ifndef DEEPMD_KIT_ENV
export DEEPMD_KIT_ENV := $(KIT)
bench bench-lammps interop: $(KIT)/.ready
endif
endif

$(KIT)/.ready:
	$(PYTHON) -m venv $(KIT)
	$(KIT)/bin/python -m pip install --quiet --upgrade pip
	$(KIT)/bin/python -m pip install --quiet 'deepmd-kit[cpu,torch,lmp]==3.2.0' nvidia-cuda-runtime-cu12
	touch $@

bench: $(READY)
	$(BIN)/python benchmarks/run.py $(BENCH)

bench-lammps: $(READY)
	$(BIN)/python benchmarks/lammps.py $(BENCH)

# Their Python and LAMMPS with our files, ours with theirs; then the table of docs/interop.md.
interop: $(READY)
	$(BIN)/python -m pytest -q tests/interop $(INTEROP)
	$(BIN)/python tests/interop/table.py

clean:
	rm -rf $(ENV) demo
