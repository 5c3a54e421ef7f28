# Two commands matter: `make demo` and `make test`. Each sets up a local virtual environment first, once.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SERVER := $(VENV)/.installed-server
STAMP := $(VENV)/.installed
# What packages are built with is held to the same versions: by the first in older versions of pip, then by the second.
BUILD_PINS := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt
PIP := $(BUILD_PINS) $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test test-slow test-ray test-servers test-rest check audit images-test hostile chaos identity simulation bench protos dashboards alerts pictures page-pictures gif rendered clean

demo: $(SERVER)  ## serve the pocket model on a local Ray and stream 20 s with a cue to demo.mp4
	$(BIN)/longtake demo

# Three runs side by side, for each waits most of its time. All that starts a Ray is in one of them: nodes of one machine
# that start at once take each other's ports.
RAYS := tests/cluster/launch tests/cluster/cell tests/deploy tests/longtake
SERVERS := tests/cluster
MARKED := not slow
PYTEST = $(BIN)/python -m pytest -m "$(MARKED)" --absent

ABSENT := .pytest_cache/absent-ray.json .pytest_cache/absent-servers.json .pytest_cache/absent-rest.json

test: $(STAMP)  ## every test that needs no GPU and less than ten seconds (a quarter of an hour)
	@rm -f $(ABSENT)
	$(MAKE) --no-print-directory --jobs=3 --keep-going test-ray test-servers test-rest; \
	status=$$?; $(BIN)/python -m tests.programs $(ABSENT); exit $$status

test-slow: $(STAMP)  ## the tests that take more than ten seconds, and further seeds and values of the others
	@$(MAKE) --no-print-directory test MARKED=slow

test-ray: $(STAMP)
	$(PYTEST) $(word 1,$(ABSENT)) $(RAYS)

test-servers: $(STAMP)
	$(PYTEST) $(word 2,$(ABSENT)) $(SERVERS) $(addprefix --ignore=,$(RAYS))

test-rest: $(STAMP)
	$(PYTEST) $(word 3,$(ABSENT)) tests $(addprefix --ignore=,$(RAYS) $(SERVERS))

check: $(STAMP)  ## static checks
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && ../$(BIN)/buf lint
	$(BIN)/python protos/generate.py --check
	$(BIN)/python -m protos.document --check
	$(BIN)/python -m monitoring.boards.dashboards --check
	$(BIN)/python -m monitoring.alerting.rules --check
	$(BIN)/python -m deploy.render --check

audit: $(STAMP)  ## the pinned dependencies against the known advisories, where their service can be asked
	$(BIN)/python -m deploy.audit

images-test: $(STAMP)  ## build deploy/Dockerfile and run its server, without registry and engine (root, Debian; five minutes)
	$(BIN)/python -m deploy.images --torch-index "$(TORCH_INDEX)"

hostile: $(STAMP)  ## attacks, floods, outputs that take nothing, and what live streams see of them (a quarter of an hour)
	$(BIN)/python -m benchmarks.hostile --json
	$(BIN)/python -m benchmarks.hostile --guarded --json
	$(BIN)/python -m benchmarks.floods --json
	$(BIN)/python -m benchmarks.outputs --json

chaos: $(STAMP)  ## kill, stop, pause and hang what runs under real streams, and an hour of one (an hour and a half)
	$(BIN)/python -m benchmarks.chaos --kills 30 --stops 10 --stalls 5 --json
	$(BIN)/python -m benchmarks.chaos --launcher ray --kills 6 --stops 2 --stalls 1 --json
	$(BIN)/python -m benchmarks.pauses --json
	$(BIN)/python -m benchmarks.hangs --json
	$(BIN)/python -m benchmarks.hangs --worker decode --decoders 1 --times 1 --json
	$(BIN)/python -m benchmarks.chaos --hour --json

identity: $(STAMP)  ## every layout against the sequential oracle, 20 seeds of 60 blocks, and 100 losses of workers a level (an hour)
	$(BIN)/python -m tests.identity
	$(BIN)/python -m tests.identity --break --seeds 4 --blocks 12
	$(BIN)/python -m tests.identity.losses
	$(BIN)/python -m tests.identity.losses --break --losses 20

simulation: $(STAMP)  ## 10,000 seeds of a whole cell on a fake clock, its workers struck at every moment of every op (ten minutes)
	$(BIN)/python -m tests.simulation --seeds 10000

bench: $(STAMP)  ## the figures of benchmarks/RESULTS.md, one JSON object a line (most of an hour, on a quiet machine)
	$(BIN)/python -m benchmarks.sessions --json
	$(BIN)/python -m benchmarks.sessions --model tiny --json
	$(BIN)/python -m benchmarks.pipeline --simulated 60ms --workers 4 --streams 1 --blocks 100 --json
	$(BIN)/python -m benchmarks.pipeline --simulated 60ms --workers 16 --streams 16 --blocks 80 --json
	$(BIN)/python -m benchmarks.pipeline --simulated 60ms --workers 8 --streams 16 --blocks 120 --straggler 1.3 --json
	$(BIN)/python -m benchmarks.pipeline --simulated 20ms --recipe clean --recipe input --recipe two-step --json
	$(BIN)/python -m benchmarks.recipes --json
	$(BIN)/python -m benchmarks.mixed --json
	$(BIN)/python -m benchmarks.mixed --live 28 --bulk 4 --json
	$(BIN)/python -m benchmarks.mixed --policy fifo --json
	$(BIN)/python -m benchmarks.loadgen --streams 512 --blocks 20 --rate 500 --workers 8 --json
	$(BIN)/python -m benchmarks.scrape --json
	$(BIN)/python -m benchmarks.scrape --pace realtime --streams 24 --blocks 20 --simulated 10ms --json
	$(BIN)/python -m benchmarks.scrape --streams 512 --simulated 2ms --workers 8 --rate 500 --rounds 4 --json
	$(BIN)/python -m benchmarks.idle --sessions 10000 --connections 100 --json
	$(BIN)/python -m benchmarks.pages
	$(BIN)/python -m benchmarks.journal --path /var/tmp --json
	$(BIN)/python -m benchmarks.paging --json
	$(BIN)/python -m benchmarks.simulate --devices 4 --devices 8 --devices 64 --devices 1024 --json
	$(BIN)/python -m benchmarks.simulate --tables

protos: $(STAMP)  ## generate the code of the wire protocols again
	$(BIN)/python protos/generate.py
	$(BIN)/python -m protos.document

alerts: $(STAMP)  ## provoke alerts on real servers under a real Prometheus (nine minutes, on a quiet machine)
	$(BIN)/python -m benchmarks.alerts --json

pictures: $(STAMP)  ## draw the dashboards' panels from a run of two minutes into docs/pictures
	$(BIN)/python -m benchmarks.draw_dashboards --seconds 130

dashboards: $(STAMP)  ## the chart's dashboards and rules again, from monitoring/boards and monitoring/alerting
	$(BIN)/python -m monitoring.boards.dashboards
	$(BIN)/python -m monitoring.alerting.rules

rendered: $(STAMP)  ## the chart's schema and the rendering that lies in git again
	$(BIN)/python -m deploy.render

# What `make demo` needs, and on top of it what development does.
$(SERVER): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[server]'
	touch $@

$(STAMP): $(SERVER)
	$(PIP) -e '.[server,dev]'
	touch $@

page-pictures: $(STAMP)  ## the pictures of docs/page.md, from a run of the page's tests in Chromium
	LONGTAKE_PICTURES=$(CURDIR)/docs/pictures $(BIN)/python -m pytest tests/cluster/http/page/test_browser.py tests/cluster/http/page/test_face.py

gif: $(STAMP)  ## the README's moving picture, from three streams of a server (a minute)
	$(BIN)/python -m benchmarks.draw_streams

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
