#!/usr/bin/env bash
# Point-in-time recovery of an installation on PostgreSQL: the database by
# pgBackRest, the files of DATA_DIR by the sealed backup that
# `chainreactions backup --follow --history 336h --out FILES_BACKUP` keeps.
#
#   pitr.sh init                 archiving on (PostgreSQL is restarted), a repository, the first full backup
#   pitr.sh backup [full|diff|incr]   one more, and are both whole? For a timer; incr by default
#   pitr.sh check                are both whole, and how far do they reach?
#   pitr.sh restore [--to TIME]  puts what was there at TIME (2026-01-31T12:00:00Z; else the last there is) in
#                                the place of what is: in quarantine, with a new full backup. Nothing may run.
#   pitr.sh drill [--to TIME]    restores aside, starts it, checks it, prints RPO and RTO; what runs is not touched
#
#   PGDATA            the cluster's folder
#   PGPORT, PGHOST    where it listens (5432, /var/run/postgresql)
#   PG_USER           who owns it, where root runs this (postgres)
#   PG_OPTIONS        of the server, where its configuration is not in PGDATA (-c config_file=…)
#   PG_START, PG_STOP commands that start and stop it, in place of pg_ctl
#   PITR_CONF         pgBackRest's configuration (/etc/chainreactions/pgbackrest.conf). init writes one where there is
#                     none: for a folder PITR_REPO, encrypted under PITR_CIPHER_PASS. Write it yourself for S3.
#                     Keep it and SECRET_KEY elsewhere too: nothing opens without them.
#   ARCHIVE_TIMEOUT   seconds after which what was written leaves the machine (5)
#   FILES_BACKUP      the backup of the files; "none" where they are backed up by other means
#   RPO, RTO          what a drill may find (10s, 5m)
#   WAL_SEGMENT_MB    of the cluster (16)
#   CHAINREACTIONS    the program (chainreactions), which reads DATABASE_URL, DATA_DIR, SECRET_KEY and REDIS_URL
set -euo pipefail

say() { echo "$(date -u +%H:%M:%S) $*" >&2; }
die() { echo "pitr: $*" >&2; exit 1; }

command=${1:-}
[ $# -gt 0 ] && shift
to=""
kind=incr
while [ $# -gt 0 ]; do
  case $1 in
    --to) to=${2:?--to needs a time}; shift 2 ;;
    full | diff | incr) kind=$1; shift ;;
    *) die "what is $1?" ;;
  esac
done
: "${PGDATA:?the folder of the cluster}" "${DATABASE_URL:?that of chainreactions}" "${DATA_DIR:?that of chainreactions}"
: "${FILES_BACKUP:?the backup of the files, or none}"
PGPORT=${PGPORT:-5432} PGHOST=${PGHOST:-/var/run/postgresql}
conf=${PITR_CONF:-/etc/chainreactions/pgbackrest.conf}
cr=${CHAINREACTIONS:-chainreactions}
stanza=chainreactions
command -v pgbackrest >/dev/null || die "pgbackrest is not installed (deploy/install.sh pgbackrest)"
pg_ctl=$(ls /usr/lib/postgresql/*/bin/pg_ctl 2>/dev/null | sort -V | tail -n 1 || true)
[ -n "$pg_ctl" ] || pg_ctl=$(command -v pg_ctl) || die "no pg_ctl"
as=()
[ "$(id -u)" != 0 ] || as=(setpriv "--reuid=${PG_USER:-postgres}" "--regid=${PG_USER:-postgres}" --clear-groups)
rest() { (cd / && "${as[@]}" pgbackrest "--config=$conf" "--stanza=$stanza" "$@"); }

# Whose database it is, and which, by the address that the program has.
address=${DATABASE_URL#*://}
user=${address%%[:@/]*}
database=${address#*/}
database=${database%%\?*}

work=$(mktemp -d /tmp/cr-pitr-XXXXXX)
chmod 711 "$work"
private=""
beat=""
finish() {
  [ -z "$beat" ] || kill "$beat" 2>/dev/null || true
  [ -z "$private" ] || quiet stop -D "$private" -m immediate || true
  rm -rf "$work"
}
trap finish EXIT
quiet() { (cd / && "${as[@]}" "$pg_ctl" -s "$@") >/dev/null; }
sql() { psql -XAtq -v ON_ERROR_STOP=1 -h "$1" -p "$PGPORT" -U "${PG_USER:-postgres}" -d "$2" -c "$3"; }

# segments holds that no segment of the log is missing between two that are there:
# a recovery would end at the gap as if nothing had come after it.
segments() {
  local name line log number before="" last=""
  while read -r name; do
    line=${name:0:8} log=$((16#${name:8:8})) number=$((16#${name:16:8}))
    number=$((log * (4096 / ${WAL_SEGMENT_MB:-16}) + number))
    if [ "$line" = "$before" ] && [ $number -gt $((last + 1)) ]; then
      echo "$((number - last - 1)) segments of the log are missing before $name"
      return 1
    fi
    before=$line last=$number
  done < <(rest repo-ls --recurse "archive/$stanza" | grep -oE '/[0-9A-F]{24}-' | tr -d '/-' | sort -u)
}

# check says whether both backups are whole. verify reads every file of the
# repository against its checksum.
check() {
  local said
  said=$(rest verify --output=text --log-level-console=error 2>&1) || die "the repository is corrupt: $said"
  case $said in *"status: error"* | *ERROR*) die "the repository is corrupt: $said" ;; esac
  said=$(segments) || die "the repository is corrupt: $said"
  rest info --output=json >"$work/info" || die "the repository cannot be read"
  grep -q '"backup":\[{' "$work/info" || die "the repository has no backup: pitr.sh init makes the first"
  [ "$FILES_BACKUP" = none ] || "$cr" backup --check --out "$FILES_BACKUP" >&2 || die "the backup of the files is not whole"
  say "both backups are whole"
}

# alone FOLDER starts what was restored there where nobody hears it but this script:
# no process of the platform may speak before the quarantine stands. It waits until
# the recovery is done, and gives the address.
alone() {
  local folder=$1 why
  mkdir -p "$work/socket"
  echo "local all all trust" >"$work/hba"
  [ "$(id -u)" != 0 ] || chown "${PG_USER:-postgres}" "$work" "$work/socket" "$work/hba"
  private=$folder
  quiet start -w -t "${PITR_PATIENCE:-3600}" -D "$folder" -l "$work/log" -o "${PG_OPTIONS:-} -c listen_addresses= -c unix_socket_directories=$work/socket -c hba_file=$work/hba -c port=$PGPORT" ||
    { why=$(grep -E 'FATAL|PANIC|ERROR' "$work/log" | tail -n 5); die "what was restored does not start: ${why:-$(tail -n 20 "$work/log")}"; }
  until [ "$(sql "$work/socket" postgres 'SELECT pg_is_in_recovery()' 2>/dev/null)" = f ]; do
    quiet status -D "$folder" || { why=$(grep -E 'FATAL|PANIC|ERROR' "$work/log" | tail -n 5); private=""; die "the recovery failed: $why"; }
    sleep 0.2
  done
}
at_address() { echo "postgres://$user@/$database?host=$work/socket&port=$PGPORT&sslmode=disable"; }

target=()
if [ -n "$to" ]; then
  # To the last transaction before that moment, which must be one that the archive reaches.
  target=(--type=time "--target=$(date -u -d "$to" '+%Y-%m-%d %H:%M:%S.%6N+00')" --target-action=promote)
fi

case $command in
  init)
    if ! [ -e "$conf" ]; then
      : "${PITR_REPO:?the folder of the repository: on another machine than PGDATA}" "${PITR_CIPHER_PASS:?a long random text, kept elsewhere too}"
      mkdir -p "$(dirname "$conf")" "$PITR_REPO"
      (umask 077 && cat >"$conf") <<END
[global]
repo1-path=$PITR_REPO
repo1-cipher-type=aes-256-cbc
repo1-cipher-pass=$PITR_CIPHER_PASS
repo1-retention-full=2
repo1-bundle=y
compress-type=lz4
start-fast=y
log-level-file=off
lock-path=/tmp/pgbackrest-$stanza-$PGPORT

[$stanza]
pg1-path=$PGDATA
pg1-port=$PGPORT
pg1-socket-path=$PGHOST
pg1-user=${PG_USER:-postgres}
END
      [ "$(id -u)" != 0 ] || chown -R "${PG_USER:-postgres}" "$conf" "$PITR_REPO"
    fi
    for setting in "archive_mode = on" "archive_command = 'pgbackrest --config=$conf --stanza=$stanza archive-push %p'" "archive_timeout = ${ARCHIVE_TIMEOUT:-5}"; do
      sql "$PGHOST" postgres "ALTER SYSTEM SET $setting"
    done
    rest stanza-create
    ${PG_STOP:-quiet stop -w -D "$PGDATA" -m fast}
    ${PG_START:-quiet start -w -D "$PGDATA" -l "$PGDATA/server.log" -o "${PG_OPTIONS:-}"}
    rest check
    rest backup --type=full
    check
    ;;
  backup)
    rest backup "--type=$kind"
    check
    ;;
  check) check ;;
  restore)
    if [ -e "$PGDATA/postmaster.pid" ] && quiet status -D "$PGDATA"; then die "PostgreSQL runs on $PGDATA: stop it, and every process of the platform"; fi
    began=$(date +%s)
    check
    if [ -e "$PGDATA" ]; then
      aside=$PGDATA.before-$(date -u +%Y%m%dT%H%M%SZ)
      mv "$PGDATA" "$aside"
      say "what was there before is in $aside"
    fi
    mkdir -m 700 "$PGDATA"
    [ "$(id -u)" != 0 ] || chown "${PG_USER:-postgres}" "$PGDATA"
    rest restore "${target[@]}"
    say "the database's files are back; now its log"
    alone "$PGDATA"
    # What of the files speaks of rows must not be newer than these.
    reached=$(sql "$work/socket" postgres "SET timezone = 'UTC'; SELECT to_char(pg_last_xact_replay_timestamp(), 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')")
    if [ "$FILES_BACKUP" = none ]; then
      DATABASE_URL=$(at_address) "$cr" quarantine --begin "restored as of $reached" >&2
    else
      DATABASE_URL=$(at_address) "$cr" restore --replace --from "$FILES_BACKUP" --to "$reached" >&2
      [ "$(id -u)" != 0 ] || chown -R --reference="$DATA_DIR" "$DATA_DIR"
    fi
    quiet stop -w -D "$PGDATA" -m fast
    private=""
    ${PG_START:-quiet start -w -D "$PGDATA" -l "$PGDATA/server.log" -o "${PG_OPTIONS:-}"}
    rest backup --type=full # what was made before the fork does not restore what comes after
    echo "restored: the last transaction is of $reached; RTO $(($(date +%s) - began)) s, with a new full backup"
    echo 'start the platform; it is in quarantine until "chainreactions quarantine --release"'
    ;;
  drill)
    [ "$FILES_BACKUP" != none ] || die "a drill needs the backup of the files"
    began=$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)
    # Something is committed every second, where the cluster lives: what is lost is told by the last of it that comes back.
    psql -XAtq -h "$PGHOST" -p "$PGPORT" -U "${PG_USER:-postgres}" -d postgres <<<"SELECT pg_logical_emit_message(true, 'drill', '') \\watch 1" >/dev/null 2>&1 &
    beat=$!
    check
    mkdir -m 700 "$work/pg"
    [ "$(id -u)" != 0 ] || chown "${PG_USER:-postgres}" "$work/pg"
    rest restore "--pg1-path=$work/pg" --archive-mode=off "--tablespace-map-all=$work/pg/pg_tblspc_drill" "${target[@]}"
    alone "$work/pg"
    "$cr" drill --from "$FILES_BACKUP" --database "$(at_address)" --began "$began" ${to:+--to "$(date -u -d "$to" +%Y-%m-%dT%H:%M:%S.%6NZ)"} --rpo "${RPO:-10s}" --rto "${RTO:-5m}"
    ;;
  *) sed -n '2,31s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
