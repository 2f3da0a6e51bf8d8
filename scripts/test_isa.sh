#!/usr/bin/env bash
# The tests on the instruction sets that this processor can pretend to have: does a tolerance hold on another one?
#   bash scripts/test_isa.sh [PYTEST ARGUMENTS ...]     default: the tests that compare numbers
#   bash scripts/test_isa.sh tests                      the whole suite; hours
# Each row limits the oneDNN of Paddle and ours, chooses the code path of Paddle's MKL (of AMD processors; others ignore
# it), and turns our convolutions in training off or on. Prints the rows that failed; exit status 1 if there are any.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"
if [ -z "${VIRTUAL_ENV:-}" ]; then
  prepare_env cpu,deploy,data,dev || exit 2
fi
cd "$ROOT"
tests=("$@")
[ $# -gt 0 ] || tests=(tests/models tests/losses tests/weights tests/contract tests/export tests/deploy)

failed=()
# ONEDNN_MAX_CPU_ISA (- leaves it unset), MKL_DEBUG_CPU_TYPE, PPLITESEG_ONEDNN: any two of their values are together in a row.
while read -r isa mkl ours; do
  variables=("MKL_DEBUG_CPU_TYPE=${mkl/empty/}" "PPLITESEG_ONEDNN=$ours")
  [ "$isa" = - ] || variables+=("ONEDNN_MAX_CPU_ISA=$isa")
  echo "== ${variables[*]}"
  env -u ONEDNN_MAX_CPU_ISA "${variables[@]}" \
    python -m pytest -n "${TEST_PROCESSES:-2}" "${tests[@]}" < /dev/null || failed+=("${variables[*]}")
done << 'ROWS'
- empty 1
- 5 0
AVX2 empty 0
AVX2 5 1
AVX512_CORE empty 1
AVX512_CORE 5 0
AVX512_CORE_VNNI empty 0
AVX512_CORE_VNNI 5 1
ROWS
[ ${#failed[@]} -eq 0 ] && echo "all rows passed" && exit 0
printf 'failed: %s\n' "${failed[@]}" >&2
exit 1
