#!/usr/bin/env bash
# check-cluster.sh: to be run by node.sh (see check.sh), beside a real one-node
# cluster that holds the images chainreactions:one and chainreactions:two. Installs
# the chart with PostgreSQL and Redis outside of it, and goes from one image to the
# other and back under load, a new connection for each request: none may fail. Then
# the same without the wait at the end of a process must lose some: else the test
# is not believed. Where coredns and haproxy are found it then goes from a release
# called blue to one called green, by weights; and where act is, the pipeline brings
# its images (check-pipelines.sh deploy).
set -euo pipefail
cd "$(dirname "$0")/.."
host=${NODE_IP:-10.77.0.2} ns=chainreactions
dir=$(mktemp -d /tmp/check-cluster-XXXXXX)
chmod 755 "$dir"
pids=() others=() # of those that are told by INT to end at once, and by TERM
export PATH=$PATH:$HOME/go/bin
finish() {
  for p in "${pids[@]}"; do kill -INT "$p" 2>/dev/null || true; done
  for p in "${others[@]}"; do kill -TERM "$p" 2>/dev/null || true; done
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

# Names of services. The mount namespace is node.sh's, and so is what is mounted here.
named=$(command -v coredns || true)
if [ -n "$named" ]; then
  printf '.:53 {\n  errors\n  kubernetes cluster.local {\n    kubeconfig %s l\n  }\n}\n' "$KUBECONFIG" >"$dir/Corefile"
  "$named" -quiet -conf "$dir/Corefile" >"$dir/dns.log" 2>&1 &
  others+=($!)
  printf 'nameserver %s\nsearch %s.svc.cluster.local svc.cluster.local\noptions ndots:5\n' "$host" $ns >"$dir/resolv.conf"
  mount --bind "$dir/resolv.conf" "$(readlink -f /etc/resolv.conf)"
fi

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
# release NAME OPTIONS…: installs it, or brings it up to what is said.
release() {
  helm upgrade --install "$1" deploy/chart --namespace $ns --values "$dir/values.yaml" --wait --timeout 5m "${@:2}" >"$dir/helm.log" 2>&1 && return
  cat "$dir/helm.log"
  kubectl -n $ns get pods
  kubectl -n $ns logs --selector app.kubernetes.io/instance="$1" --tail 5 --prefix
  return 1
}

began=$SECONDS
release cr --set image.tag=one
echo "  installed and ready in $((SECONDS - began)) s: $(kubectl -n $ns get pods --field-selector status.phase=Running -o name | wc -l) pods"
is_at() { kubectl -n $ns get service "$1-gateway" -o jsonpath='{.spec.clusterIP}:3000'; }
aim() { sed "s|AT|$1|" "$dir/requests" >"$dir/targets"; }

# Half is answered by main, half by dataset-matching; each request comes from
# another address, as an installation's do.
body=$(printf '{"name":"Northmere University"}' | base64 -w 0)
for i in $(seq 20000); do
  from="\"X-Forwarded-For\":[\"198.$((18 + i / 16000)).$((i / 250 % 250)).$((i % 250))\"]"
  echo "{\"method\":\"GET\",\"url\":\"http://AT/api/v1/plans\",\"header\":{$from}}"
  echo "{\"method\":\"POST\",\"url\":\"http://AT/api/v1/demo/matches\",\"body\":\"$body\",\"header\":{$from,\"Content-Type\":[\"application/json\"]}}"
done >"$dir/requests"
aim "$(is_at cr)"
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
replaced() { release cr --set image.tag="$1" && [ "$(kubectl -n $ns get pods --field-selector status.phase=Running -o jsonpath='{range .items[*]}{.spec.containers[0].image}{"\n"}{end}' | sort -u | grep -c "chainreactions:$1\$")" = 1 ]; }

bad=0
under_load "quiet" sleep 10
[ "$failures" = 0 ] || bad=1
under_load "upgrade" replaced two
[ "$failures" = 0 ] || bad=1
under_load "rollback" replaced one
[ "$failures" = 0 ] || bad=1
sed -i 's/DRAIN_WAIT: 5s/DRAIN_WAIT: 0s/' "$dir/values.yaml"
release cr --set image.tag=one
under_load "control: upgrade with no wait" replaced two
[ "$failures" -gt 0 ] || { echo "  the control lost nothing: this test tells nothing"; bad=1; }
sed -i 's/DRAIN_WAIT: 0s/DRAIN_WAIT: 5s/' "$dir/values.yaml"
helm uninstall cr --namespace $ns --wait >/dev/null 2>&1 # its claim stays

# Blue and green: whole releases on one database, one Redis and one claim, and
# in front of them what weighs requests, as an ingress or the mesh does.
haproxy_says() { (exec 3<>"/dev/tcp/$host/9999" && echo "$1" >&3 && cat <&3); }
weigh() { # blue, green, for so many seconds
  haproxy_says "set weight all/blue $1; set weight all/green $2" >/dev/null
  sleep "$3"
}
had() { haproxy_says "show stat" | awk -F, '$1 == "all" && $2 != "BACKEND" {printf "%s %s, ", $2, $8}' | sed 's/, $//'; }
moved() {
  weigh 100 0 4
  weigh 90 10 8
  echo "  at 90 and 10: $(had)"
  weigh 50 50 6
  weigh 0 100 8
  weigh 100 0 6 # back, and there again
  weigh 0 100 4
  helm uninstall blue --namespace $ns --wait >/dev/null 2>&1
}
if [ -z "$named" ] || ! command -v haproxy >/dev/null; then
  echo "  NOT CHECKED: blue and green, for want of coredns (deploy/tools.sh) or haproxy (deploy/install.sh)"
else
  one=(--set discovery=services --set data.existingClaim=cr-data)
  for role in gateway main dataset-search entity-relations dataset-matching worker; do one+=(--set "roles.$role.replicas=1"); done
  release blue --set image.tag=one "${one[@]}"
  began=$SECONDS
  release green --set image.tag=two "${one[@]}"
  echo "  green installed and ready beside blue in $((SECONDS - began)) s"
  cat >"$dir/haproxy.cfg" <<H
global
  stats socket ipv4@$host:9999 level admin
defaults
  mode http
  option httpclose
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend in
  bind $host:8080
  default_backend all
backend all
  balance roundrobin
  server blue $(is_at blue) weight 100
  server green $(is_at green) weight 0
H
  haproxy -f "$dir/haproxy.cfg" >"$dir/haproxy.log" 2>&1 &
  others+=($!)
  for _ in $(seq 100); do haproxy_says "show info" >/dev/null 2>&1 && break; sleep 0.1; done
  aim "$host:8080"
  under_load "from blue to green, there and back, blue taken away" moved
  echo "  in all: $(had)"
  [ "$failures" = 0 ] || bad=1
  helm uninstall green --namespace $ns --wait >/dev/null 2>&1
fi

if [ -z "$named" ] || ! command -v act >/dev/null; then
  echo "  NOT CHECKED: the pipeline that deploys, for want of coredns or act (deploy/tools.sh)"
else
  "${KUBE_TOOLS:?}/crds.sh" >/dev/null
  { cat "$dir/values.yaml"; printf 'istio: {enabled: true}\ndata: {existingClaim: cr-data}\n'; } >"$dir/pipeline.yaml"
  VALUES=$dir/pipeline.yaml deploy/check-pipelines.sh deploy || bad=1
fi
[ "$bad" = 0 ]
