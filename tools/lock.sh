#!/bin/sh
# Resolve pyproject.toml into requirements.lock and requirements-dev.lock, for all platforms.
#
#   tools/lock.sh VENV PYTHON [--upgrade]
#
# Versions that the locks already name are kept where they still fit, unless --upgrade is given.
set -eu

venv=$1
python=${2:-python3}
shift 2

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check uv

resolve() {
  lock=$1
  shift
  "$venv/bin/python" -m uv pip compile pyproject.toml --output-file "$lock" \
    --universal --python-version 3.11 --generate-hashes --no-header \
    --extra nats --extra otel --extra postgres --extra s3 "$@" > /dev/null
  # Where the packages came from is the business of whoever installs them.
  sed '/^--/d; /:\/\//d' "$lock" > "$lock.new"
  mv "$lock.new" "$lock"
}

# The larger set first: what is tested has the versions of what runs.
resolve requirements-dev.lock --group dev "$@"
resolve requirements.lock --constraints requirements-dev.lock "$@"
