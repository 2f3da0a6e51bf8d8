#!/usr/bin/env bash
# PP-LiteSeg end to end on generated street scenes: bash scripts/demo.sh [OUT_DIR [--overwrite]]
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
out="${1:-demo_output}"
case "$out" in /*) ;; *) out="$PWD/$out" ;; esac
shift $(($# > 0))
prepare_env cpu
cd "$ROOT"
exec ppliteseg demo --save_dir "$out" "$@"
