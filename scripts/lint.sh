#!/usr/bin/env bash
# Style and types.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

[ -x "$VENV/bin/ruff" ] && [ -x "$VENV/bin/mypy" ] || { need_build_tools && install test; }
"$VENV/bin/ruff" check .
"$VENV/bin/mypy"
