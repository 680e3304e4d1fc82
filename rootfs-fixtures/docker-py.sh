#!/bin/bash
# docker-py.sh DIRECTORY: Docker's Python library in a Python environment of its own.
set -euo pipefail
python3 -m venv --clear "$1"
"$(dirname "$(readlink -f "$0")")/../packaging/again.sh" "$1/bin/pip" install --quiet --retries 10 --disable-pip-version-check 'docker==7.1.0'
# Only now: the environment is there before what is installed into it.
touch "$1/complete"
