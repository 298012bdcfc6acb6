#!/usr/bin/env bash
# Style and types.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

"$VENV/bin/ruff" check .
"$VENV/bin/mypy"
