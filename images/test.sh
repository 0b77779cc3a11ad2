#!/bin/sh
# Builds the CPU image and runs compiled steps in it. With --if-changed only when what images are made of has changed
# since the commit before, and where it can be built; otherwise it says why it does not.
set -eu
cd "$(dirname "$0")/.."
python=.venv/bin/python

if [ "${1:-}" = --if-changed ]; then
    git diff --quiet "${SINCE:-HEAD~1}" -- images constraints.txt pyproject.toml .dockerignore 2> /dev/null && {
        echo "The image is not tested: nothing that it is made of has changed since ${SINCE:-HEAD~1}."
        exit 0
    }
    reason=$("$python" -m images.buildable) || {
        echo "The image is NOT tested, although what it is made of has changed: $reason"
        exit 0
    }
fi
"$python" -m images.build cpu
TEST_IMAGE=$("$python" -c 'from images.build import Target, tag_of; print(tag_of(Target.CPU))') \
    "$python" -m pytest -q -s tests/images/test_image.py
