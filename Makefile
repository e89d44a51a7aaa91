# The two commands of the README, and what contributors need. Each sets up its own virtual environment first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test check tests results report paper lab exactness matrix protection bench conformance security format clean

# Passive waiting: where other jobs share the cores, threads that spin are several times slower.
demo: $(INSTALLED)
	HF_HUB_OFFLINE=1 OMP_WAIT_POLICY=passive $(BIN)/langcore demo --output demo-out --overwrite

test: check tests

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONUTF8=1 $(BIN)/lint-imports

# One thread per worker: two threads that fight for a core are ten times slower.
tests: $(INSTALLED)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -q

# The table of docs/results.md, on a real model and real text (LANGCORE_MODEL, LANGCORE_DATA).
results: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(BIN)/python examples/thirty_languages.py --write docs/results.md

# docs/report: every experiment of the paper, the talk and the language lab on the real model; resumable (out/paper),
# docs/experiments.md says how long it took.
report: paper lab
	$(BIN)/langcore report out/paper --output docs/report --overwrite --title "A small Llama of 30 languages"

BENCH := --model "$(LANGCORE_MODEL)" --data "$(LANGCORE_DATA)" --output out/paper --core-tokens 12288 --test-tokens 512

paper: $(INSTALLED)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/langcore recipe paper $(BENCH) \
	  --set changes.bf16=true --set changes.block_size=64 \
	  --set recovery.bf16=true --set recovery.block_size=32 --set recovery.batch_size=32 --set recovery.generated_arms=frozen,free \
	  --set epochs.bf16=true --set epochs.block_size=64 \
	  --set noise.bf16=true --set noise.block_size=64 --set noise.samples=1536 --set noise.learning_rate=1e-4 --set noise.shares=0.05,0.2

lab: out/encoder
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/langcore recipe lab $(BENCH) \
	  --treebanks "$(LANGCORE_TREEBANKS)" --encoder out/encoder \
	  --set probes.max_sentences=100 --set probes.max_items=2000 \
	  --set syntax_without_core.max_sentences=60 --set syntax_without_core.max_items=2000 \
	  --set syntax_without_core.seeds=2 --set syntax_without_core.draws=20 \
	  --set transfer.bf16=true --set transfer.block_size=64 --set transfer.seeds=0,1

# A small encoder to compare the model with: about fifteen minutes on one core; resumable.
out/encoder: | $(INSTALLED)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python examples/train_encoder.py --output out/encoder --bf16 --batch-size 16 \
	  --steps 5400 --languages ar,cs,de,en,es,fi,fr,id,it,ko,pl,pt,ru,sv,tr,zh

# docs/exactness.md: the published algorithm, three ways to the same mask, and the frozen core's bits, on the real model.
exactness: $(INSTALLED)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python examples/exactness.py --write docs/exactness.md

# The second part of docs/results.md: fine-tuning under every protection, two tasks, three seeds; about two hours on a shared
# core, resumable (out/protection).
protection: $(INSTALLED)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python examples/protection.py --write docs/results.md

# docs/exactness.md, second part: optimizer x precision x distribution, with gradient masking as the control; resumable.
matrix: $(INSTALLED)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python tests/matrix/run.py --write docs/exactness.md

# docs/performance.md: adapters against LoRA, ratios measured in turns; about half an hour on two quiet cores.
bench: $(INSTALLED)
	HF_HUB_OFFLINE=1 $(BIN)/python tests/benchmarks/run.py --write docs/performance.md

# docs/conformance.md: PEFT's own test-suite (from its source distribution) with the method in LoRA's place.
conformance: $(INSTALLED)
	$(BIN)/python -m pip install --quiet parameterized scipy  # what PEFT's tests need besides
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python tests/conformance/peft_suite.py --method both -n 2 --report docs/conformance.md

# The table of docs/security.md: damaged and hostile artifacts of every kind; about six minutes.
security: $(INSTALLED)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python tests/hostile/run.py --count 10000 --write docs/security.md

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(INSTALLED)

clean:
	rm -rf $(VENV) demo-out build dist
