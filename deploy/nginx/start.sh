#!/bin/sh
# Puts what the environment says into nginx.conf, and becomes nginx. Arguments are passed on to nginx.
#
#   PUBLIC_URL     where the page is from outside, e.g. https://meet.example.org:8443
#   NODE           address and port of the node, e.g. candor:8080
#   NGINX_DIR      where to put the file (default /tmp)
set -eu
: "${PUBLIC_URL:?}" "${NODE:?}"
file=${NGINX_DIR:-/tmp}/nginx.conf
sed -e "s|@PUBLIC_URL@|$PUBLIC_URL|g" -e "s|@NODE@|$NODE|g" "$(dirname "$0")/nginx.conf" >"$file"
exec nginx -c "$file" -g 'daemon off;' "$@"
