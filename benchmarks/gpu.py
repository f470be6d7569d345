"""Everything that needs a GPU, in parts: `bash benchmarks/gpu.sh OUT`, or `python -m benchmarks.gpu out=OUT`.

Each part is a process with a time limit of its own. What fails or runs out of time is recorded in `OUT/gpu.json` with
the reason and what it had measured, and the other parts run. `device=cpu` (or CLEP_BENCHMARK_DEVICE=cpu) rehearses all
parts at toy size on a machine without a GPU. The exit status is the number of parts that did not end well.
"""

import os
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.report import read_settings, table
from clep.errors import InputError
from clep.files import read_json, write_json

ROOT = Path(__file__).parent.parent
LIMITS_S = {"tests": 75.0, "training": 160.0, "lookups": 60.0, "extraction": 160.0}
"""Seconds of each part, under 8 minutes in all."""
_TOY = {
    "training": "fraction=0.0005 dim=16 text_dim=8 width=16 batches=[16,64] steps=[3,2] warm_steps=1 turns=1 workers=1 "
    "compiled=[16]",
    "lookups": "fraction=0.0005 dim=16 text_dim=8 batch_size=32 seconds=0.01 long_term.size.videos=3 "
    "long_term.size.seconds=100 long_term.size.dim=16 long_term.batch_size=4 long_term.latent_dim=8",
    "extraction": "toy=true compiler=eager clip_batch=2 films=2 film_s=2 drawn_s=2 width=64 height=48 seconds=0.01",
}
_LAST_LINES = 12


@dataclass
class Settings:
    """Settings: where results go, the device, which parts run, and the seconds of each."""

    out: str = ""
    device: str = field(default_factory=lambda: os.environ.get("CLEP_BENCHMARK_DEVICE", "cuda"))
    parts: list[str] = field(default_factory=lambda: list(LIMITS_S))
    limits_s: dict[str, float] = field(default_factory=lambda: dict(LIMITS_S))


def main(words: Sequence[str] | None = None) -> int:
    """Run the parts, write gpu.json and return how many did not end well."""
    settings = read_settings(Settings, words)
    if not settings.out:
        sys.exit("error: say where the results go: out=FOLDER")
    unknown = set(settings.parts) - set(LIMITS_S)
    if unknown:
        sys.exit(f"error: there is no part {', '.join(sorted(unknown))}; choose among {', '.join(LIMITS_S)}")
    out = Path(settings.out)
    out.mkdir(parents=True, exist_ok=True)
    started = perf_counter()
    found: dict[str, Any] = {
        "benchmark": "gpu",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(settings.device),
        "device": settings.device,
        "toy_size": settings.device == "cpu",
        "parts": {},
    }
    with tempfile.TemporaryDirectory(prefix="clep-gpu-") as data:
        for name in settings.parts:
            print(f"{name}: at most {settings.limits_s[name]:g} s", flush=True)
            found["parts"][name] = run_part(
                name, command(name, settings.device, out, data), out, settings.limits_s[name]
            )
            found["seconds"] = round(perf_counter() - started, 1)
            write_json(out / "gpu.json", found)
    rows = [(name, one["status"], one["seconds"], one.get("reason", "")) for name, one in found["parts"].items()]
    table(f"{out / 'gpu.json'}, {found['seconds']:.0f} s", ("part", "", "s", ""), rows)
    return sum(one["status"] != "done" for one in found["parts"].values())


def command(name: str, device: str, out: Path, data: str) -> list[str]:
    """Return the command of a part."""
    if name == "tests":
        marked = [str(path.relative_to(ROOT)) for path in _tests_of_the_gpu()]
        options = ["-m", "cuda", "-q", "-p", "no:cacheprovider", f"--junitxml={out / 'tests.xml'}"]
        return [sys.executable, "-m", "pytest", *options, *marked]
    words = [f"results='{out}'", f"device={device}"]
    words += [f"data='{data}'"] if name != "extraction" else []
    return [sys.executable, "-m", f"benchmarks.gpu_{name}", *words, *(_TOY[name].split() if device == "cpu" else [])]


def run_part(name: str, words: list[str], out: Path, limit_s: float) -> dict[str, Any]:
    """Run a part with a time limit; return its status, seconds, result, and the reason where it did not end well."""
    log, result = out / f"{name}.log", out / f"gpu_{name}.json"
    result.unlink(missing_ok=True)
    started, status, reason = perf_counter(), "done", ""
    with log.open("wb") as file:
        child = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            status, reason, code = "out of time", f"it ran longer than {limit_s:g} s", None
        finally:
            _end(child)
    if code:
        status = "failed"
        reason = "\n".join(log.read_text(errors="replace").splitlines()[-_LAST_LINES:])
    found: dict[str, Any] = {"status": status, "seconds": round(perf_counter() - started, 1)}
    found |= {"reason": reason} if reason else {}
    try:
        return found | {"result": _test_counts(out / "tests.xml") if name == "tests" else read_json(result)}
    except (InputError, OSError, ElementTree.ParseError) as error:
        return found if reason else found | {"status": "failed", "reason": str(error)}


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a part with its own processes, such as loader workers, which are in its process group."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _tests_of_the_gpu() -> list[Path]:
    """Return the test files that have a test marked `cuda`; to collect them alone is quick."""
    return [path for path in sorted((ROOT / "tests").rglob("test_*.py")) if "@pytest.mark.cuda" in path.read_text()]


def _test_counts(path: Path) -> dict[str, Any]:
    """Return how many tests passed, failed and were skipped, and the names of those that failed."""
    cases = list(ElementTree.parse(path).iter("testcase"))
    bad = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    names = [f"{case.get('classname')}::{case.get('name')}" for case in bad]
    return {"passed": len(cases) - len(bad) - skipped, "failed": names, "skipped": skipped}


def _machine(device: str) -> dict[str, Any]:
    """Describe the machine; where a GPU is needed, leave with one sentence if there is none."""
    import torch

    from benchmarks.machine import machine

    if device != "cpu" and not torch.cuda.is_available():
        sys.exit(
            f"error: torch {torch.__version__} finds no GPU on this machine; rehearse with CLEP_BENCHMARK_DEVICE=cpu"
        )
    return machine()


if __name__ == "__main__":
    sys.exit(main())
