#!/bin/bash
# The benchmark in a network namespace of its own: the peers' bridges and rules end with it.
ip link set lo up
exec python3 "$(dirname "$0")/bench.py" "$@"
