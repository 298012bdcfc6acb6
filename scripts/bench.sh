#!/usr/bin/env bash
# Measure against other libraries; arguments as in bench/README.md: `scripts/bench.sh elementwise --quick`.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

need_build_tools
install bench
exec "$VENV/bin/python" -m bench "$@"
