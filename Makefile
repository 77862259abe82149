# One set of build flags everywhere: another set rebuilds everything. The compiler
# would take a fifth of its time to save memory.
export CGO_ENABLED := 0
ifeq ($(MAKELEVEL),0)
export GOFLAGS := '-toolexec=env GOGC=400' $(shell go env GOFLAGS)
endif

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
ACTIONLINT := github.com/rhysd/actionlint/cmd/actionlint@v1.7.12

.PHONY: check-deploy check-ops check-portal check-saml help run build portal test test-portal check bench race oracle sweep update

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

run: build ## the server on :3000, on embedded defaults
	bin/chainreactions serve

# What a build says of itself.
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)

build: portal ## bin/chainreactions, with the portal in it
	go build -ldflags "-s -w -X main.version=$(VERSION)" -o bin/chainreactions ./app

# The portal is typed by the API document of this very source: a change of the
# API that breaks the portal breaks the build. Without Node there is no portal,
# and the server says so where it would be.
portal: ## the portal, built into web/dist
ifeq ($(shell command -v npm),)
	@echo "no npm: the server is built without the portal"
else
	go build -ldflags "-s -w -X main.version=$(VERSION)" -o bin/chainreactions ./app
	@bin/chainreactions openapi > web/openapi.json.new
	@cmp -s web/openapi.json.new web/openapi.json && rm web/openapi.json.new || mv web/openapi.json.new web/openapi.json
	@$(MAKE) --no-print-directory web/dist/index.html
endif

web/node_modules/.package-lock.json: web/package.json web/package-lock.json
	cd web && npm ci --no-audit --no-fund
	@touch $@

web/dist/index.html: web/node_modules/.package-lock.json web/openapi.json web/index.html web/vite.config.ts $(shell find web/src web/public -type f ! -name '*.gen.ts' 2>/dev/null)
	cd web && npm run --silent api && npm run --silent build

# Vetting is make check's, and symbols for debuggers are nobody's here: a fresh
# machine compiles everything once, and half of that time would go there.
GOTEST := go test -timeout 20m -vet=off -ldflags "-s -w"

# Two lanes, for two cores: what does not need the portal is done while it is built.
test: ## every test, on throwaway PostgreSQL and Redis and in a real browser
	$(MAKE) --no-print-directory -j2 -Otarget build test-early
	./deploy/test-servers.sh $(MAKE) --no-print-directory -j2 -Otarget test-go e2e

.PHONY: test-early test-go e2e
test-early:
	./deploy/test-browser.sh
	./deploy/test-servers.sh $(MAKE) --no-print-directory race

test-go:
	$(GOTEST) ./...

test-portal: build e2e ## the portal, in a real browser

check-portal: build ## the same, and every page in every language, width and appearance (minutes)
	PORTAL_FULL=1 $(MAKE) --no-print-directory e2e

.PHONY: screenshots
screenshots: build ## the pictures of the README, taken anew into web/screenshots
	./deploy/test-browser.sh
	cd web && npm run --silent screenshots

.PHONY: portal-speed
portal-speed: build ## how long the portal makes its reader wait, with 10,000 rows and 1,000 nodes
	./deploy/test-browser.sh
	cd web && npm run --silent speed

e2e:
	./deploy/test-browser.sh
	cd web && npm run --silent e2e

# Left out: pools drop on purpose under the detector; and what is long and runs
# in one goroutine has nothing for it to find. Tests on both databases run on
# PostgreSQL alone here (migrations/testdb says why).
race: ## the packages where concurrency lives, under the race detector
	CGO_ENABLED=1 $(GOTEST) -race -short -skip 'TestDesk|AllocateNothing|TopTen|SimilarWords|Recall|CrashPoints|RandomHistories|AccessAlways|MoneyAddsUp|FiguresAgree|Changing|Cancelling|Overage|Usage|AtTheEnd|Mails' ./domain ./domain/match ./app/cluster ./app/jobs ./billing

oracle: ## the sandbox asked through Google's own SDK, which is downloaded for it
	cd app/sandbox/oracle && go test ./...

check-saml: ## SAML against an identity provider by lasso, which is installed for it
	@/usr/bin/python3 -c 'import lasso' 2>/dev/null || ./deploy/install.sh python3-lasso
	$(GOTEST) -run TestSAMLBySecondImplementation -v -count 1 ./auth

check-deploy: ## deploy/ by the real tools: API server, image, rules; says what it cannot ask
	./deploy/check.sh

# OPS_FROM=commit upgrades from that commit instead of from this source.
check-ops: ## upgrade and rollback under load behind HAProxy; PostgreSQL and Redis failing in every way, a replica read and promoted; all lost and restored
	@command -v haproxy >/dev/null || ./deploy/install.sh haproxy
	@command -v prometheus-alertmanager >/dev/null && command -v prometheus >/dev/null || ./deploy/install.sh prometheus prometheus-alertmanager
	@command -v pgbackrest >/dev/null || ./deploy/install.sh pgbackrest
	OPS_FULL=1 ./deploy/test-servers.sh $(GOTEST) -run 'TestUpgrade|TestAlertsReach|TestDependenciesFail|TestPointInTime|TestLoadedDisaster' -v -count 1 -timeout 40m ./app
	OPS_FULL=1 $(GOTEST) -run 'TestReplica' -v -count 1 ./domain/store

.PHONY: check-roles
check-roles: ## each role killed and started again under load: how long the others take, beside the quiet
	OPS_FULL=1 ./deploy/test-servers.sh $(GOTEST) -run 'TestEachRoleDies|TestDeathsAreNotFelt' -v -count 1 ./app

check: ## format, vet, staticcheck, workflows, import rules, goldens; the portal's types and lint
	@test -z "$$(gofmt -l app auth billing domain migrations samples tenants)" || { gofmt -l app auth billing domain migrations samples tenants; echo "run gofmt -w on these"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go run $(ACTIONLINT)
	go test ./app -run 'TestImportRules|TestRouteTable|TestEverySentence'
ifneq ($(shell command -v npm),)
	$(MAKE) --no-print-directory portal
	cd web && npm run --silent check
else
	@echo "no npm: the portal is not checked"
endif

bench: ## every figure beside its yardstick
	BENCH_FULL=1 ./deploy/test-servers.sh go test -run '^$$' -bench . -benchtime 1x -timeout 60m ./domain/match
	./deploy/test-servers.sh go test -run '^$$' -bench . -benchtime 1s ./domain/sheet ./domain/geo
	./deploy/test-servers.sh go test -run '^$$' -bench . -benchtime 3x ./domain/dataset
	BENCH_FULL=1 ./deploy/test-servers.sh go test -run '^$$' -bench . -benchtime 1x ./domain/audit
	BENCH_FULL=1 ./deploy/test-servers.sh go test -run '^$$' -bench . -benchtime 1s -timeout 30m ./app
	BENCH_FULL=1 ./deploy/test-servers.sh go test -v -run 'TestAccessAlways|TestRandomHistories|TestMoneyAddsUp|CrashPoints' -timeout 12h ./billing | (! grep -v '^=== \|PASS: .*/' | tee /dev/stderr | grep -q '^FAIL')

sweep: ## every fault of every vendor at every stage, and a kill after every event (minutes)
	SWEEP_FULL=1 go test -run 'TestEveryFaultAtEveryStage|TestKilledServerGoesOn' -timeout 60m ./app

update: ## rewrite the golden files
	go test ./app -run TestRouteTable -update
