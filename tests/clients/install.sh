#!/usr/bin/env bash
# Installs the stock clients and servers for the tests. Quick when nothing has changed; never changes the system.
set -euo pipefail
cd "$(dirname "$0")"

venv=../../target/clients/venv
need() { command -v "$1" >/dev/null || { echo "tests need $1: install it ($2) and try again" >&2; exit 1; }; }

# Skipped unless the list is newer than the installation.
if [ ! -f node_modules/.installed ] || [ package-lock.json -nt node_modules/.installed ]; then
  need npm "Debian: apt-get install nodejs npm"
  echo "Installing socket.io with its client and Redis adapter, playwright-core, typescript and the AsyncAPI parser into tests/clients/node_modules: the tests drive stock clients and servers"
  npm ci --silent
  touch node_modules/.installed
fi

if [ ! -f "$venv/.installed" ] || [ requirements.txt -nt "$venv/.installed" ]; then
  need python3 "Debian: apt-get install python3 python3-venv"
  echo "Installing python-socketio and checkers for deployment files (hadolint, kubernetes-validate, compose-spec) into target/clients/venv"
  mkdir -p "$(dirname "$venv")"
  python3 -m venv "$venv" || { echo "python3 has no venv: apt-get install python3-venv" >&2; exit 1; }
  # Through the interpreter: pip's own script contains its absolute path, and the checkout may have moved since.
  "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
  touch "$venv/.installed"
fi
