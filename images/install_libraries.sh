#!/bin/sh
# Makes /opt/venv with the project's dependencies, in the versions of constraints.txt.
# Usage: install_libraries.sh TORCH_INDEX EXTRA...; TORCH_INDEX "" takes torch from pip's own sources.
set -eu
cd "$(dirname "$0")"
torch_index=$1
shift

python3 -m venv /opt/venv
pip() { /opt/venv/bin/pip --disable-pip-version-check "$@"; }

# The wheels of torch for one kind of hardware are in an index of their own, which must not offer any other package.
pip install --quiet --no-cache-dir ${torch_index:+--index-url "$torch_index"} --no-deps "$(grep '^torch==' constraints.txt)"
/opt/venv/bin/python - "$@" > requirements.txt << 'END'
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
for extra in sys.argv[1:]:
    project["dependencies"] += project["optional-dependencies"][extra]
print(*project["dependencies"], sep="\n")
END
pip install --quiet --no-cache-dir -c constraints.txt -r requirements.txt
pip check
rm requirements.txt
