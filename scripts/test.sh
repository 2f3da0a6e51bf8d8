#!/usr/bin/env bash
# Install everything and run the whole test suite. Arguments go to pytest: bash scripts/test.sh -k stdc
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env cpu,deploy,data,dev
cd "$ROOT"
exec python -m pytest "$@"
