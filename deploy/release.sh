#!/bin/sh
# On the machine: exchange the release that runs for another one, and go back if it is not well. deploy/remote.sh ships a release
# and runs this; by hand, from anywhere on the machine:
#
#   sh DIR/current/deploy/release.sh back DIR           to the release before
#
#   DIR/.env, DIR/certificates   never shipped
#   DIR/releases/NAME            the newest three; .passed in those that were found well
#   DIR/current                  the last that was found well, and where everybody returns who was cut off
#   DIR/deploy.log               what docker said the last time
#
# `exchange DIR NAME strict|tolerant` speaks with deploy/remote.sh: it says `built` and then `running URL ROOM TOKEN`, and goes on if
# the answer is `go`. Anything else, and a connection that is gone, is a no. Status: 0 exchanged, 1 as it was before, 2 refused
# before anything was done, 3 neither runs: look at deploy.log.
set -eu
trap '' HUP PIPE # who started this may be gone; then it is undone, to the end

health_s=${HEALTH_S:-300}
answer_s=${ANSWER_S:-300}
releases_kept=3
room=doctor

say() { printf '%s\n' "$*" >&2 || :; }

refuse() {
  say "$1; nothing was changed"
  exit 2
}

composer() {
  if docker compose version >/dev/null 2>&1 </dev/null; then
    docker compose "$@"
  else
    docker-compose "$@"
  fi
}

# RELEASE COMMAND...: the name of the project is one for all releases, and with it volumes and networks.
compose() (
  cd "$dir/releases/$1"
  shift
  composer --project-name candor "$@" </dev/null
)

current() { basename "$(readlink "$dir/current" || :)"; }

# Ours, which `compose build` makes, under the same name for every release.
images() { sed -n 's/^ *image: \(candor[^ ]*\)$/\1/p' "$dir/releases/$1/docker-compose.yml" 2>>"$log" | sort -u; }

has_image() { docker image inspect "$1" >/dev/null 2>&1 </dev/null; }

# Each release keeps its images by a name of their own.
keep_images() {
  for image in $(images "$1"); do
    if has_image "$image"; then docker tag "$image" "$image-$1" >>"$log" 2>&1 || return 1; fi
  done
}

use_images() {
  for image in $(images "$1"); do
    if has_image "$image-$1"; then docker tag "$image-$1" "$image" >>"$log" 2>&1 || return 1; fi
  done
}

discard() {
  for image in $(images "$1"); do
    if has_image "$image-$1"; then docker image rm "$image-$1" >>"$log" 2>&1 || :; fi
  done
  rm -rf "$dir/releases/$1"
}

# Those that nobody found well are of runs that were cut off.
discard_unfinished() {
  for path in "$dir"/releases/*; do
    name=$(basename "$path")
    if [ "$name" != "$new" ] && [ ! -e "$path/.passed" ]; then discard "$name"; fi
  done
}

discard_oldest() {
  set -- "$dir"/releases/*
  while [ $# -gt "$releases_kept" ]; do
    name=$(basename "$1")
    if [ "$name" != "$(current)" ]; then discard "$name"; fi
    shift
  done
}

# Every container runs, and is healthy if it can say so.
all_healthy() {
  ids=$(compose "$1" ps --quiet 2>>"$log") && [ -n "$ids" ] || return 1
  format='{{.State.Status}}{{if .State.Health}} {{.State.Health.Status}}{{end}}'
  # shellcheck disable=SC2086  # a word for each container
  states=$(docker inspect --format "$format" $ids 2>>"$log" </dev/null) || return 1
  ! printf '%s\n' "$states" | grep -qvx -e 'running' -e 'running healthy'
}

is_ready() {
  ask="import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/api/v1/health/ready', timeout=4)"
  compose "$1" exec -T candor python -c "$ask" >>"$log" 2>&1
}

start() {
  use_images "$1" && compose "$1" up --detach --remove-orphans >>"$log" 2>&1 || return 1
  left_s=$health_s
  until all_healthy "$1" && is_ready "$1"; do
    [ "$left_s" -gt 0 ] || return 1
    sleep 2
    left_s=$((left_s - 2))
  done
}

# WHY: what ran before runs again.
undo() {
  trap '' INT TERM
  say "$1: going back"
  compose "$new" logs --no-color --tail 200 >>"$log" 2>&1 || :
  if [ -z "$old" ]; then
    compose "$new" down >>"$log" 2>&1 || :
    say "There was no release before: nothing runs. See $log"
  elif start "$old"; then
    say "Release $old runs again. See $log"
  else
    say "RELEASE $old IS NOT WELL EITHER. See $log"
    exit 3
  fi
  if [ ! -e "$dir/releases/$new/.passed" ]; then discard "$new"; fi
  exit 1
}

# LINE: tell it to remote.sh, and hear whether to go on.
may_go_on() {
  printf '%s\n' "$1" 2>/dev/null || return 1
  answer=$(timeout "$answer_s" head -n 1) || :
  [ "$answer" = go ]
}

# From now on `current` is the new one.
passed() {
  : >"$dir/releases/$new/.passed"
  ln -sfn "releases/$new" "$dir/current.new"
  mv -fT "$dir/current.new" "$dir/current"
}

build() {
  compose "$new" config --quiet >>"$log" 2>&1 && compose "$new" build >>"$log" 2>&1 && keep_images "$new"
}

exchange() {
  [ -f "$dir/releases/$new/docker-compose.yml" ] || refuse "$dir/releases/$new is no release"
  if [ ! -f "$dir/.env" ]; then
    discard "$new"
    refuse "$dir/.env is missing: python3 -m candor.init makes one, then scp it there"
  fi
  if [ -z "$old" ] && [ -n "$(docker ps --quiet --filter label=com.docker.compose.project=candor </dev/null)" ]; then
    discard "$new"
    refuse "The project candor runs, and not from $dir/current: docker compose --project-name candor down stops it"
  fi
  discard_unfinished
  ln -sfn ../../.env "$dir/releases/$new/.env"
  ln -sfn ../../certificates "$dir/releases/$new/certificates"
  say "Building $new"
  if ! build || ! may_go_on built; then
    tail -n 20 "$log" >&2 || :
    if [ -n "$old" ]; then use_images "$old"; fi
    discard "$new"
    say "It was not built, or nobody waited for it: what runs was not touched. See $log"
    exit 1
  fi
  say "Starting it"
  trap 'undo "Interrupted"' INT TERM
  start "$new" || undo "It is not well after $health_s s"
  if ! compose "$new" exec -T candor candor doctor >&2 2>>"$log" && [ "$1" = strict ]; then undo "Something has to be fixed"; fi
  token=$(compose "$new" exec -T candor candor token "$room" doctor --ttl-s 600 2>>"$log") || undo "It gives no token"
  url=$(sed -n 's/^PUBLIC_URL=//p' "$dir/.env")
  may_go_on "running $url $room $token" || undo "It was not well from outside, or nobody looked"
  passed
  discard_oldest
  say "Release $new runs"
}

back() {
  new=
  for path in "$dir"/releases/*; do
    [ "$(basename "$path")" != "$old" ] || break
    if [ -e "$path/.passed" ]; then new=$(basename "$path"); fi
  done
  [ -n "$new" ] || refuse "There is no release before ${old:-the first}"
  trap 'undo "Interrupted"' INT TERM
  say "Starting $new"
  start "$new" || undo "It is not well after $health_s s"
  passed
  say "Release $new runs"
}

command=${1:-}
dir=$(cd "${2:?the folder with releases}" && pwd -P)
log=$dir/deploy.log
exec 9>"$dir/.lock"
flock -n 9 || refuse "Somebody else exchanges releases here just now"
: >"$log"
chmod 600 "$log"
docker info >>"$log" 2>&1 </dev/null || refuse "docker does not answer this user"
old=$(current)
case $command in
  exchange)
    new=${3:?a release}
    exchange "${4:-strict}"
    ;;
  back) back ;;
  *) refuse "exchange or back, not '$command'" ;;
esac
