#!/bin/sh
# Puts the password (REDIS_PASSWORD) where no list of processes shows it, and becomes Redis.
set -eu
: "${REDIS_PASSWORD:?}"
umask 077
{
  cat "$(dirname "$0")/redis.conf"
  echo "requirepass $REDIS_PASSWORD"
} >/run/redis/redis.conf
unset REDIS_PASSWORD
exec redis-server /run/redis/redis.conf
