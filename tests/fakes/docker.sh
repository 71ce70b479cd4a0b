#!/bin/sh
# As much of docker as deploy/release.sh asks for, without containers: images are names, of which a container says how it is.
#
# State, in $FAKE_DOCKER: images/TAG with the image, `runs` with that of the project that is up, `calls` with a line for each. An
# image is what the file `version` in a release says; words in it say what goes wrong: `broken`, `stopped` (does not come up),
# `unhealthy`, `unready`, `sick` (its doctor finds something), `slow` (its build waits until the file `continue` is there).
set -eu
images=$FAKE_DOCKER/images
printf '%s\n' "$*" >>"$FAKE_DOCKER/calls"
runs=
if [ -e "$FAKE_DOCKER/runs" ]; then read -r runs <"$FAKE_DOCKER/runs"; fi

# WORD: fails if what runs is so.
is_not() {
  case $runs in *"$1"*) return 1 ;; esac
}

build() {
  version=$(cat version)
  case $version in
    *slow*)
      : >"$FAKE_DOCKER/building"
      while [ ! -e "$FAKE_DOCKER/continue" ]; do sleep .02; done
      ;;
  esac
  # Of two images the first is made, and has the name, when the second fails.
  printf '%s\n' "$version" >"$images/candor:0.1.0"
  case $version in *broken*) exit 1 ;; esac
  printf '%s\n' "$version" >"$images/candor-models:0.1.0-cpu"
}

case $* in
  info | 'compose version') ;;
  'ps --quiet --filter label=com.docker.compose.project=candor') if [ "$runs" ]; then echo one; fi ;;
  'inspect --format '*' one two') if is_not unhealthy; then echo running; else echo running unhealthy; fi && echo running healthy ;;
  'image inspect '*) test -e "$images/$3" ;;
  'image rm '*) rm "$images/$3" ;;
  'tag '*) cp "$images/$2" "$images/$3" ;;
  'compose --project-name candor '*)
    shift 3
    case $* in
      'config --quiet') grep -q ^PUBLIC_URL= .env ;;
      build) build ;;
      'up --detach --remove-orphans')
        cp "$images/candor:0.1.0" "$FAKE_DOCKER/runs"
        if grep -q stopped "$FAKE_DOCKER/runs"; then exit 1; fi
        ;;
      'ps --quiet') if [ "$runs" ]; then printf 'one\ntwo\n'; fi ;;
      'exec -T candor python -c '*) is_not unready ;;
      'exec -T candor candor doctor') if is_not sick; then echo 'ok    configuration'; else echo 'fix   configuration' && exit 1; fi ;;
      'exec -T candor candor token doctor doctor --ttl-s '*) echo "token of $runs" ;;
      'logs '*) echo "the last words of $runs" ;;
      down) rm "$FAKE_DOCKER/runs" ;;
      *) echo "not faked: compose $*" >&2 && exit 125 ;;
    esac
    ;;
  *) echo "not faked: $*" >&2 && exit 125 ;;
esac
