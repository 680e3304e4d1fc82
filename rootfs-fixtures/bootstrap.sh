#!/bin/bash
# bootstrap.sh FLAGS... SUITE OUT: a small Debian (minbase) by mmdebstrap, which is begun anew when the network fails it.
set -euo pipefail
exec "$(dirname "$(readlink -f "$0")")/../packaging/again.sh" mmdebstrap --quiet --variant=minbase --aptopt='Acquire::Retries "5"' "$@"
