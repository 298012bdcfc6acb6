#!/usr/bin/env bash
# Install everything, then style, types and tests. Arguments go to pytest: `scripts/test.sh -m slow`, or
# `scripts/test.sh -n 0` for tests one after the other, in one process.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

need_build_tools
need_cross_tools
install test
bash scripts/lint.sh
exec "$VENV/bin/pytest" -n auto --maxprocesses 4 "$@"
