# Sourced by the other scripts: from a bare machine to a virtual environment with pyquant in it.
#
#   need_build_tools       a C compiler, Python's headers and venv; installs what is missing
#   need_cross_tools       a C++ compiler, the Arm compiler and the emulators that the tests use
#   install EXTRAS         .venv with an editable build of this clone and its extras
#
# Missing system packages are installed with apt-get, as root or through sudo. Where that is not possible a line
# says what is missing, and the step that needs it fails (the build) or is skipped (tests of other processors).
# PYTHON names the interpreter to use; default: python3.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
PYTHON=${PYTHON:-python3}
VENV=.venv

have() { command -v "$1" >/dev/null 2>&1; }

apt_install() {
    local as_root=()
    if [ "$(id -u)" != 0 ]; then
        as_root=(sudo -n)
        sudo -n true 2>/dev/null || as_root=()
    fi
    if ! have apt-get || { [ "$(id -u)" != 0 ] && [ ${#as_root[@]} = 0 ]; }; then
        echo "missing here, and not installed: $*" >&2
        return 0
    fi
    echo "installing: $*"
    "${as_root[@]}" apt-get update -q
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
}

compiles() { echo '#include <stdio.h>' | "$1" -E -x c - >/dev/null 2>&1; }

need_build_tools() {
    local missing=()
    have "$PYTHON" || missing+=(python3)
    compiles gcc || missing+=(gcc libc6-dev)
    "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
    "$PYTHON" -c 'import os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' 2>/dev/null ||
        missing+=(python3-dev)
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

need_cross_tools() {
    local missing=()
    have g++ || missing+=(g++)
    compiles aarch64-linux-gnu-gcc || missing+=(gcc-aarch64-linux-gnu libc6-dev-arm64-cross)
    { have qemu-aarch64 && have qemu-x86_64; } || missing+=(qemu-user)
    [ ${#missing[@]} = 0 ] || apt_install "${missing[@]}"
}

install() {
    "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$PYTHON" -m venv --clear "$VENV"
    echo "installing pyquant[$1] into $VENV"
    "$VENV/bin/python" -m pip install -qq --editable ".[$1]"
}
