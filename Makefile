# One set of build flags everywhere: another set rebuilds everything.
export CGO_ENABLED := 0

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

.PHONY: help run build test check bench race oracle update

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

run: build ## the server on :3000, on embedded defaults
	bin/chainreactions serve

build: ## bin/chainreactions
	go build -ldflags "-s -w" -o bin/chainreactions ./app

test: ## every test, on throwaway PostgreSQL and Redis
	./deploy/test-servers.sh go test ./...
	./deploy/test-servers.sh $(MAKE) race

race: ## the packages where concurrency lives, under the race detector
	CGO_ENABLED=1 go test -race -short -skip AllocateNothing ./domain ./domain/match ./app/cluster ./app/jobs ./app/api ./billing # pools drop on purpose under the detector

oracle: ## the sandbox asked through Google's own SDK, which is downloaded for it
	cd app/sandbox/oracle && go test ./...

check: ## format, vet, staticcheck, import rules, goldens
	@test -z "$$(gofmt -l app auth billing domain migrations tenants)" || { gofmt -l app auth billing domain migrations tenants; echo "run gofmt -w on these"; exit 1; }
	go vet ./...
	go run $(STATICCHECK) ./...
	go test ./app -run 'TestImportRules|TestRouteTable|TestEverySentence'

bench: ## every figure beside its yardstick
	BENCH_FULL=1 ./deploy/test-servers.sh go test -run '^$$' -bench . -benchtime 1x -timeout 60m ./domain/match
	./deploy/test-servers.sh go test -run '^$$' -bench . -benchtime 1s ./domain/sheet ./domain/geo
	./deploy/test-servers.sh go test -run '^$$' -bench . -benchtime 3x ./domain/dataset
	./deploy/test-servers.sh go test -run '^$$' -bench . -benchtime 1s ./app

update: ## rewrite the golden files
	go test ./app -run TestRouteTable -update
