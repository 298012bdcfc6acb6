#!/usr/bin/env bash
# The main job on real input: train a digit classifier, quantize its checkpoint, show what that did.
# The files stay in demo/.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

need_build_tools
install examples

show() {
    printf '\n$ %s\n' "$*"
    "$VENV/bin/$1" "${@:2}"
}

show python examples/digits_checkpoint.py --out demo
show pyquant quantize demo/digits.safetensors demo/int4.safetensors --dtype int4 --block-size 32 \
    --report demo/report.json --overwrite
show pyquant inspect demo/int4.safetensors
show pyquant compare demo/digits.safetensors demo/int4.safetensors --plot demo/errors.png
