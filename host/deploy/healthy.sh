#!/bin/bash
# Succeeds if the server answers on its public port. The image has no HTTP client, so bash opens the connection.
set -euo pipefail
exec 3<>"/dev/tcp/127.0.0.1/${HUBBUB_SERVER__LISTEN##*:}"
printf 'GET /health HTTP/1.0\r\n\r\n' >&3
read -r status <&3
[[ $status == *" 200 "* ]]
