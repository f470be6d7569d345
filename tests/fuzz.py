"""Fuzz until the time is over: `python -m tests.fuzz minutes=30`.

Half of the time, the property tests run again and again with new examples; the other half, films and tables are mutated
(`tests.drills.inputs`), and what crashed, hung or differed is kept. Hypothesis keeps what failed in `.hypothesis/`, so
that the next call tries it first; the test then needs a fix and the example a place in it (`@example`), because
`make test` draws fixed examples only.
"""

import os
import subprocess
import sys
import time


def main(arguments: list[str]) -> int:
    """Run the property tests in rounds, then the mutations; return 1 at the first round that fails."""
    options = dict(argument.partition("=")[::2] for argument in arguments)
    if set(options) - {"minutes"}:
        sys.stderr.write(f"unknown option {sorted(set(options) - {'minutes'})}; there is minutes=30\n")
        return 2
    minutes = float(options.get("minutes", 30)) / 2
    ends, rounds = time.monotonic() + 60 * minutes, 0
    command = [sys.executable, "-m", "pytest", "-q", "-m", "hypothesis", "-n", "2"]
    environment = {"OMP_NUM_THREADS": "1", **os.environ, "CLEP_HYPOTHESIS": "fuzz"}
    while time.monotonic() < ends:
        rounds += 1
        if status := subprocess.run(command, env=environment).returncode:
            sys.stdout.write(f"round {rounds} failed\n")
            return status
    sys.stdout.write(f"{rounds} rounds passed\n")
    return subprocess.run([sys.executable, "-m", "tests.drills.inputs", f"minutes={minutes}"]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
