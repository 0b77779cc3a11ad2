#!/bin/sh
# Makes .venv with the pinned dependencies. Run again, it does nothing unless the pins have changed.
set -eu
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
stamp=.venv/set-up-$(cat pyproject.toml constraints.txt scripts/set_up.sh | cksum | cut -d ' ' -f 1)
[ -e "$stamp" ] && exit 0

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or newer is needed; $("$python" --version) was found. Set PYTHON to another one." >&2
    exit 1
}
echo "Setting up .venv (some minutes the first time) ..."
# The environment is made whole under another interpreter's eyes only once: an interrupted one is made anew.
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check "$@"; }

# PyPI's torch for Linux brings gigabytes of CUDA, which a machine without an NVIDIA driver cannot use. PyTorch's own
# index has the CPU build, unless pip is already configured to find one.
torch=$(grep '^torch==' constraints.txt)
if ! .venv/bin/python -c 'import torch' 2> /dev/null; then
    index=
    if ! nvidia-smi > /dev/null 2>&1; then
        pip install --quiet --dry-run --no-deps --report - "$torch" 2> /dev/null | grep -q '"version": "[0-9.]*+cpu"' ||
            index=https://download.pytorch.org/whl/cpu
    fi
    pip install --quiet --progress-bar off ${index:+--index-url "$index"} --no-deps "$torch"
fi
pip install --quiet --progress-bar off -c constraints.txt -e '.[steps,cpu,trigger,emulator,dev]'
rm -f .venv/set-up-*
touch "$stamp"
echo "Ready: .venv"
