#!/usr/bin/env bash
# Everything that needs an NVIDIA GPU: install, check against the CPU bit for bit, measure; one table at the end.
#
#   scripts/gpu.sh             all of it (about 20 minutes, and gigabytes of downloads for torch)
#   scripts/gpu.sh --no-torch  without torch among the peers
#   scripts/gpu.sh --here      with what the current interpreter (PYTHON, else python3) has; nothing is installed
#
# Results go to bench/results/gpu-DATE.json, gpu-gemm-DATE.json and gpu-conv-DATE.json. The exit status is 0 where every check passed; a
# missed speed target is in the table and does not count.
set -euo pipefail
. "$(dirname "$0")/environment.sh"

torch=1 here=0
for argument in "$@"; do
    case $argument in
    --no-torch) torch=0 ;;
    --here) here=1 ;;
    *) echo "scripts/gpu.sh [--no-torch] [--here], not $argument" >&2; exit 2 ;;
    esac
done

if ! have nvidia-smi || ! nvidia-smi -L >/dev/null 2>&1; then
    echo "no NVIDIA GPU here: nvidia-smi finds none" >&2
    exit 2
fi
cuda=$(nvidia-smi | sed -n 's/.*CUDA Version: *\([0-9]*\).*/\1/p' | head -1)
extra=cuda13
[ "${cuda:-13}" -ge 13 ] || extra=cuda12

if [ $here = 1 ]; then
    python=$PYTHON
    "$python" setup.py -q build_ext --inplace
else
    need_build_tools
    install "files,$extra"
    python=$VENV/bin/python
    "$python" -m pip install -qq 'pytest>=8' pytest-timeout 'hypothesis>=6.100' psutil
    peer=nvidia-cublas
    [ $extra = cuda13 ] || peer=nvidia-cublas-cu12
    "$python" -m pip install -qq $peer || echo "$peer could not be installed: it is not among the peers" >&2
    [ $torch = 0 ] || "$python" -m pip install -qq torch || echo "torch could not be installed: it is not among the peers" >&2
fi

log=build/gpu
mkdir -p "$log" bench/results
date=$(date +%F) failed=0 table=()

# step NAME STATUS-THAT-IS-ALSO-FINE COMMAND...: runs it, keeps what it prints, and notes how it went.
step() {
    local name=$1 fine=$2 status=0 file=$log/${1// /-}.log
    shift 2
    printf '\n== %s\n' "$name"
    "$@" 2>&1 | tee "$file" || status=${PIPESTATUS[0]}
    if [ "$status" = 0 ]; then
        table+=("$(printf '%-28s %-7s %s' "$name" ok "$(tail -1 "$file")")")
    elif [ "$status" = "$fine" ]; then
        table+=("$(printf '%-28s %-7s %s' "$name" missed "targets, see above")")
    else
        table+=("$(printf '%-28s %-7s %s' "$name" FAILED "$file")")
        failed=1
    fi
}

export PYQUANT_REQUIRE_GPU=1
step "runtime" none "$python" -m pyquant info
step "compile" none "$python" -c 'import time, pyquant; t = time.time(); pyquant.warmup(); print(f"{time.time() - t:.1f} s")'
step "checks" none "$python" -m pytest -q -m gpu tests/gpu
if have compute-sanitizer; then
    for tool in memcheck racecheck initcheck synccheck; do
        step "$tool" none compute-sanitizer --tool "$tool" --error-exitcode 9 --target-processes all \
            "$python" -m pytest -q -m gpu tests/gpu -k "small or strides or hard"
    done
else
    table+=("$(printf '%-28s %-7s %s' compute-sanitizer none "not installed")")
fi
step "elementwise" 1 "$python" -m bench gpu --json "bench/results/gpu-$date.json"
step "products" 1 "$python" -m bench gpu-gemm --json "bench/results/gpu-gemm-$date.json"
step "convolutions" none "$python" -m bench gpu-conv --json "bench/results/gpu-conv-$date.json"

printf '\n%s\n' "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader | head -1)"
printf '%s\n' "${table[@]}"
exit $failed
