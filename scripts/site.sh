#!/usr/bin/env bash
# The documentation as a site of static files, in site/: bash scripts/site.sh [serve]
#   serve   shows it at http://127.0.0.1:8000 and builds it again when a page changes
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
prepare_env dev
cd "$ROOT"
export NO_MKDOCS_2_WARNING=1
if [ "${1:-}" = serve ]; then
  exec python -m mkdocs serve
fi
exec python -m mkdocs build --strict
