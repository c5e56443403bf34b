#!/bin/sh
# Make a virtual environment hold what a lock names; do nothing when it already does.
#
#   tools/venv.sh VENV LOCK [PYTHON]
#
# The stamp is a copy of the installed lock, so a fresh checkout of the same lock reuses the
# environment. requirements-dev.lock holds all of requirements.lock: it can be added on top, and
# serves for it.
set -eu

venv=$1
lock=$2
python=${3:-}
stamp=$venv/installed.lock

holds() {
  cmp -s "$1" "$stamp" && "$venv/bin/python" -c "" 2>/dev/null
}

supported() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
  for candidate in ${python:-python3 python3.13 python3.12 python3.11}; do
    if supported "$candidate"; then
      python=$candidate
      return
    fi
  done
  echo "Modelyard needs Python 3.11, 3.12 or 3.13. Name one: make PYTHON=/path/to/python3.11" >&2
  exit 1
}

if holds "$lock"; then exit 0; fi
if [ "$lock" = requirements.lock ] && holds requirements-dev.lock; then exit 0; fi

if ! holds requirements.lock; then
  find_python
  if ! "$python" -m venv --clear "$venv"; then
    echo "No virtual environment can be made. On Debian or Ubuntu: apt install python3-venv" >&2
    exit 1
  fi
fi

echo "Installing $(grep -c '==' "$lock") locked packages into $venv ..."
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-compile \
  --require-hashes --requirement "$lock"
# On all cores, without the packages' own tests and what is large and hardly ever imported: a third
# of the time that pip takes for it.
"$venv/bin/python" -m compileall -qq -j 0 \
  -x '/(tests?|sympy|mpmath|networkx|moto|cfnlint|pip)/' "$venv/lib" || true
cp "$lock" "$stamp"
