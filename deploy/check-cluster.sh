#!/usr/bin/env bash
# check-cluster.sh: to be run by node.sh (see check.sh), beside a real one-node
# cluster that holds the images chainreactions:one and chainreactions:two. Installs
# the chart with PostgreSQL and Redis outside of it, and goes from one image to the
# other and back under load, a new connection for each request: none may fail. Then
# the same without the wait at the end of a process must lose some: else the test
# is not believed.
set -euo pipefail
cd "$(dirname "$0")/.."
host=${NODE_IP:-10.77.0.2} ns=chainreactions
dir=$(mktemp -d /tmp/check-cluster-XXXXXX)
chmod 755 "$dir"
pids=()
finish() {
  for p in "${pids[@]}"; do kill -INT "$p" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap finish EXIT

# Where the pods reach them and nobody else: this network has no way out.
bin=$(dirname "$(find /usr/lib/postgresql -name initdb | sort -V | tail -n 1)")
as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
install -d -o postgres "$dir/db"
(cd "$dir/db" && "${as[@]}" "$bin/initdb" -D "$dir/db/pg" -A trust -U postgres --no-sync --locale=C.UTF-8 -E UTF8 >/dev/null)
echo "host all all 10.0.0.0/8 trust" >>"$dir/db/pg/pg_hba.conf"
(cd "$dir/db" && exec "${as[@]}" "$bin/postgres" -D "$dir/db/pg" -p 5432 -c listen_addresses="$host" -c unix_socket_directories= -c fsync=off -c max_connections=300) >"$dir/postgres.log" 2>&1 &
pids+=($!)
redis-server --bind "$host" --port 6379 --protected-mode no --save '' --appendonly no --dir "$dir" >"$dir/redis.log" 2>&1 &
pids+=($!)
for _ in $(seq 200); do "$bin/pg_isready" -q -h "$host" -p 5432 && break || sleep 0.1; done

install -d -o 65532 -g 65532 "$dir/data"
kubectl create namespace $ns
kubectl label namespace $ns pod-security.kubernetes.io/enforce=restricted >/dev/null
kubectl -n $ns create secret generic chainreactions --from-literal=SECRET_KEY="$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n')" \
  --from-literal=DATABASE_URL="postgres://postgres@$host:5432/postgres?sslmode=disable" --from-literal=REDIS_URL="redis://$host:6379/0"
kubectl apply -f - <<Y
apiVersion: v1
kind: PersistentVolume
metadata: {name: shared}
spec:
  capacity: {storage: 50Gi}
  accessModes: [ReadWriteMany]
  hostPath: {path: $dir/data}
  claimRef: {namespace: $ns, name: cr-data}
Y
cat >"$dir/values.yaml" <<'Y'
image: {repository: localhost/chainreactions, pullPolicy: Never}
config: {ENVIRONMENT: production, LOG_LEVEL: info, DRAIN_WAIT: 5s, TRUSTED_PROXIES: 10.0.0.0/8}
roles:
  gateway:          {port: 3000, replicas: 2, maxReplicas: 3, cpu: 20m, memory: 256Mi}
  main:             {port: 4000, replicas: 2, maxReplicas: 3, cpu: 20m, memory: 512Mi}
  dataset-search:   {port: 4001, replicas: 1, maxReplicas: 2, cpu: 20m, memory: 512Mi}
  entity-relations: {port: 4002, replicas: 1, maxReplicas: 2, cpu: 20m, memory: 512Mi}
  dataset-matching: {port: 4003, replicas: 2, maxReplicas: 3, cpu: 20m, memory: 512Mi}
  worker:           {port: 4004, replicas: 1, maxReplicas: 2, cpu: 20m, memory: 512Mi}
Y
release() { helm upgrade --install cr deploy/chart --namespace $ns --values "$dir/values.yaml" --wait --timeout 5m "$@" >"$dir/helm.log" 2>&1 || { cat "$dir/helm.log"; kubectl -n $ns get pods; kubectl -n $ns logs --selector app.kubernetes.io/instance=cr --tail 5 --prefix; return 1; }; }

began=$SECONDS
release --set image.tag=one
echo "  installed and ready in $((SECONDS - began)) s: $(kubectl -n $ns get pods --field-selector status.phase=Running -o name | wc -l) pods"
at=http://$(kubectl -n $ns get service cr-gateway -o jsonpath='{.spec.clusterIP}'):3000

# Half is answered by main, half by dataset-matching; each request comes from
# another address, as an installation's do.
body=$(printf '{"name":"Northmere University"}' | base64 -w 0)
for i in $(seq 20000); do
  from="\"X-Forwarded-For\":[\"198.$((18 + i / 16000)).$((i / 250 % 250)).$((i % 250))\"]"
  echo "{\"method\":\"GET\",\"url\":\"$at/api/v1/plans\",\"header\":{$from}}"
  echo "{\"method\":\"POST\",\"url\":\"$at/api/v1/demo/matches\",\"body\":\"$body\",\"header\":{$from,\"Content-Type\":[\"application/json\"]}}"
done >"$dir/targets"
rate=${RATE:-60}
# under_load WHAT COMMAND…: how many requests failed while COMMAND ran.
under_load() {
  local what=$1 began=$SECONDS
  shift
  vegeta attack -format=json -targets="$dir/targets" -rate="$rate" -duration=0 -max-workers=500 -keepalive=false -timeout=30s >"$dir/results" &
  local load=$!
  "$@"
  sleep 5 # what was told to stop has stopped
  kill -INT $load
  wait $load || true
  vegeta report -type=json "$dir/results" >"$dir/report"
  failures=$(vegeta encode -to json "$dir/results" | grep -vcE '"code":200[,}]' || true)
  echo "  $what under $rate requests/s, $((SECONDS - began)) s: $failures of $(grep -o '"requests":[0-9]*' "$dir/report" | cut -d: -f2) failed, p99 $(($(grep -o '"99th":[0-9]*' "$dir/report" | cut -d: -f2) / 1000000)) ms; $(grep -o '"status_codes":{[^}]*}' "$dir/report")"
  [ "$failures" = 0 ] || grep -o '"errors":\[[^]]*\]' "$dir/report" | cut -c 1-600
}
replaced() { release --set image.tag="$1" && [ "$(kubectl -n $ns get pods --field-selector status.phase=Running -o jsonpath='{range .items[*]}{.spec.containers[0].image}{"\n"}{end}' | sort -u | grep -c "chainreactions:$1\$")" = 1 ]; }

bad=0
under_load "quiet" sleep 10
[ "$failures" = 0 ] || bad=1
under_load "upgrade" replaced two
[ "$failures" = 0 ] || bad=1
under_load "rollback" replaced one
[ "$failures" = 0 ] || bad=1
sed -i 's/DRAIN_WAIT: 5s/DRAIN_WAIT: 0s/' "$dir/values.yaml"
release --set image.tag=one
under_load "control: upgrade with no wait" replaced two
[ "$failures" -gt 0 ] || { echo "  the control lost nothing: this test tells nothing"; bad=1; }
[ "$bad" = 0 ]
