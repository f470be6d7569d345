#!/usr/bin/env bash
# Everything that needs a GPU, in under 8 minutes on one: tests, training, lookups, operators, extraction.
#   bash benchmarks/gpu.sh OUT [key=value …]      results as JSON in OUT, see benchmarks/gpu.py
#   PYTHON=…                                      interpreter of the project's environment, default .venv/bin/python
#   CLEP_BENCHMARK_DEVICE=cpu                     rehearsal at toy size on a machine without a GPU
set -u
if [ $# -lt 1 ]; then
  echo "usage: bash benchmarks/gpu.sh OUT [key=value …]" >&2
  exit 2
fi
out=$(realpath -m -- "$1")
shift
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." || exit 2
python=${PYTHON:-.venv/bin/python}
if ! command -v "$python" >/dev/null; then
  echo "error: there is no $python; run make test once, or name an interpreter with PYTHON=…" >&2
  exit 2
fi
export HF_HUB_OFFLINE=1 PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" -m benchmarks.gpu "out='$out'" "$@"
