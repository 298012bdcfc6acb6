#!/usr/bin/env bash
# Build pyquant from this clone into .venv; again after a change to C or Cython.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

need_build_tools
install "${1:-cli}"
"$VENV/bin/python" -m pyquant info
