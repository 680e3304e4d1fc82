#!/bin/bash
# moto.sh DIRECTORY: moto (a stand-in for AWS) in a Python environment of its own.
set -euo pipefail
python3 -m venv --clear "$1"
"$(dirname "$(readlink -f "$0")")/../packaging/again.sh" "$1/bin/pip" install --quiet --retries 10 --disable-pip-version-check 'moto[server]==5.2.5'
touch "$1/bin/moto_server"
