#!/usr/bin/env bash
# Ship the last commit to a machine over ssh, build and start it there with compose, look at it from inside and from here, and have
# the machine go back to the release before unless all is well.
#
#   deploy/remote.sh [--tolerate-doctor] [USER@]HOST [DIR]     DIR: on the machine, `candor` in the home folder if not told
#   deploy/remote.sh --back [USER@]HOST [DIR]                  to the release before
#
# Needs a key that ssh finds, the machine's key in known_hosts, and this checkout's environment (make run; or CANDOR=path of candor).
# There: docker with compose for this user, flock and timeout, DIR/.env and DIR/certificates. deploy/UPGRADE.md has the whole story.
# Status: 0 it runs, 1 what ran before runs, 2 nothing was done, 3 look at the machine, 255 the connection was lost.
set -euo pipefail

usage() {
  sed -n '2,11s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

refuse() {
  echo "$1" >&2
  exit 2
}

command=exchange
doctor=strict
while [[ ${1:-} == -* ]]; do
  case $1 in
    --back) command=back ;;
    --tolerate-doctor) doctor=tolerant ;;
    *) usage ;;
  esac
  shift
done
[[ $# -eq 1 || $# -eq 2 ]] || usage
host=$1
dir=${2:-candor}
# They become words of a command of the machine's shell.
[[ $host =~ ^[A-Za-z0-9._@:][A-Za-z0-9._@:-]*$ ]] || refuse "'$host' is no host"
[[ $dir =~ ^[A-Za-z0-9._/][A-Za-z0-9._/-]*$ ]] || refuse "'$dir': letters, digits and . _ / - only"

remote() {
  ssh -T -o BatchMode=yes -o StrictHostKeyChecking=yes -o ForwardAgent=no -o ConnectTimeout=15 \
    -o ServerAliveInterval=15 -o ServerAliveCountMax=4 -- "$host" "$@"
}

if [[ $command == back ]]; then
  remote "sh $dir/current/deploy/release.sh back $dir"
  exit
fi

cd "$(dirname "$0")/.."
candor=${CANDOR:-.venv/bin/candor}
command -v "$candor" >/dev/null || refuse "$candor is not there, which looks at the machine from here: make run, or CANDOR=path"
# By the machine's clock, for the names of releases are their order; computers of operators may differ.
now=$(remote 'date -u +%Y%m%dT%H%M%S.%3N') || refuse "ssh does not get in; nothing was changed"
release=$now-$(git rev-parse --short HEAD)
[[ -z $(git status --porcelain) ]] || echo "What is not committed is not shipped." >&2

echo "Shipping $release" >&2
git archive HEAD | remote "umask 022 && mkdir -p $dir/releases/$release && tar -x -C $dir/releases/$release" ||
  refuse "It could not be shipped; nothing was changed"

trap '' PIPE # a machine that is gone ends with a status, too
# In the background ssh does not hear Ctrl-C. We do, and stop answering; the machine takes that for a no, and says how it ended.
pipes=$(mktemp -d)
mkfifo "$pipes/said" "$pipes/answers"
remote "sh $dir/releases/$release/deploy/release.sh exchange $dir $release $doctor" <"$pipes/answers" >"$pipes/said" &
machine=$!
exec 4>"$pipes/answers" 3<"$pipes/said"
rm -r "$pipes"

ended() {
  trap '' INT TERM
  exec 4>&-
  local status=0
  wait "$machine" || status=$?
  exit "$status"
}
trap 'echo "Interrupted: waiting for the machine to go back" >&2; ended' INT TERM

answer_built() {
  local line
  read -r line <&3 && [[ $line == built ]] && echo go >&4
}

look_from_here() {
  local word url room token
  read -r word url room token <&3 && [[ $word == running ]] || return 1
  printf '%s\n' "$token" | "$candor" doctor --from-outside "$url" --room "$room" --token - 4>&- || return 1
  echo go >&4
}

if answer_built; then look_from_here || :; fi
ended
