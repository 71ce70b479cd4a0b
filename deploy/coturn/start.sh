#!/bin/sh
# Puts turnserver.conf and what the environment says into one file that nobody else can read, and becomes coturn.
# A secret among the arguments would be seen by whoever lists processes. Arguments are passed on to coturn.
#
#   TURN_SECRET     as in CANDOR_SIGNALING__TURN__SECRET
#   TURN_REALM      any name, usually the domain
#   TURN_PEERS      addresses of the media workers, separated by spaces; nothing else can be reached through us
#   TURN_PORT       UDP and TCP; TURN_MIN_PORT to TURN_MAX_PORT: towards the workers
#   TURN_CERT, TURN_KEY, TURN_TLS_PORT   for turns:, if both files are there
#   TURN_DIR        where to put the file (default /run/coturn)
set -eu
: "${TURN_SECRET:?}" "${TURN_REALM:?}" "${TURN_PEERS:?}" "${TURN_PORT:?}" "${TURN_MIN_PORT:?}" "${TURN_MAX_PORT:?}"
here=$(dirname "$0")
directory=${TURN_DIR:-/run/coturn}
file=$directory/turnserver.conf

umask 077
{
  cat "$here/turnserver.conf"
  echo "static-auth-secret=$TURN_SECRET"
  echo "realm=$TURN_REALM"
  echo "listening-port=$TURN_PORT"
  echo "min-port=$TURN_MIN_PORT"
  echo "max-port=$TURN_MAX_PORT"
  for peer in $TURN_PEERS; do
    echo "allowed-peer-ip=$peer"
  done
  if [ -r "${TURN_CERT:-}" ] && [ -r "${TURN_KEY:-}" ]; then
    echo "cert=$TURN_CERT"
    echo "pkey=$TURN_KEY"
    echo "tls-listening-port=${TURN_TLS_PORT:?}"
    echo "no-dtls"
  else
    echo "no-tls"
    echo "no-dtls"
  fi
} >"$file"
unset TURN_SECRET
exec turnserver -c "$file" "$@"
