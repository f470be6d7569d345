"""Kill jobs and trainings with SIGKILL and run them again: `python -m tests.drills.kills kills=300`.

A sequence is one output folder: its command is killed up to three times and then runs to its end. The result must
equal that of a run that nobody killed, and no temporary file may be left. Half of the kills come at a random moment,
half are aimed at a call that renames, flushes or removes: just before it or just after it. In every second sequence
TMPDIR lies on another file system. Commands run in processes forked from this one, which has imported PyTorch.

"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.report import RESULTS, read_settings
from clep.bank import BankWriter, Clock, FeatureBank
from clep.extraction import shard
from clep.extraction import text as text_rows
from clep.extraction import videos as video_rows
from clep.extraction.ledger import read_ledger
from clep.files import atomic_path, temporaries_in
from clep.preprocess.__main__ import main as preprocess
from tests.drills.records import add_record, code_digest
from tests.extraction.conftest import Brightness
from tests.preprocess.conftest import FakeEncoder
from tests.test_train import run as run_training
from tests.video.made_videos import numbered, regular, write_video

CODE = (
    *("files.py", "checksums.py", "hdf5.py", "columns.py", "train.py", "bank", "compute", "extraction", "training"),
    *("preprocess", "models/saving.py", "models/checkpoint_file.py", "text/narrations.py", "data/datamodule.py"),
)
AIMED = ("replace", "rename", "fsync", "unlink", "rmdir", "mkdir")
LIMIT_S = 600.0
ENCODER = "efficientnet_lite0"  # replaced by one that costs nothing


@dataclass
class Settings:
    """Of this drill; `only` is the name of one command."""

    kills: int = 100
    seed: int = 0
    only: str = ""
    out: str = str(RESULTS / "kills.json")


@dataclass(frozen=True)
class Drill:
    """A command that is killed.

    Attributes:
        name: of the job.
        command: runs it, given the folder of inputs, which it must not change, and its own output folder.
        content: what the output folder holds, without times; compared with that of a run that nobody killed.
    """

    name: str
    command: Callable[[Path, Path], object]
    content: Callable[[Path], dict[str, Any]]


def narrations(inputs: Path, out: Path) -> None:
    """Read narrations and embed their texts."""
    told = (f"narration_json={inputs / 'narration.json'}", f"ego4d_json={inputs / 'ego4d.json'}")
    _job("ego4d_narrations", *told, f"output_folder={out}", "text_encoder=fake")


def features(inputs: Path, out: Path) -> None:
    """Pack one file of features a video into a bank."""
    _job(
        *("ego4d_features", f"features_folder={inputs / 'features'}", f"output={out / 'bank.h5'}"),
        *("ego4d_json=null", "narrations=null"),
    )


def videos(inputs: Path, out: Path) -> None:
    """Encode films in three shards."""
    extraction = ("n_shards=3", "clip_batch=2", f"encoder={ENCODER}")
    _job("videos", f"videos={inputs / 'films'}", f"output={out / 'bank.h5'}", *extraction)


def bank_lmdb(inputs: Path, out: Path) -> None:
    """Copy a bank into an LMDB."""
    if not (out / "bank.h5").exists():
        with atomic_path(out / "bank.h5") as temporary:
            shutil.copyfile(inputs / "bank.h5", temporary)
    _job("bank_lmdb", f"bank={out / 'bank.h5'}")


def training(inputs: Path, out: Path) -> None:
    """Train, evaluate and save; a killed run continues in its own folder."""
    out.mkdir(parents=True, exist_ok=True)
    if not (out / "data").exists():
        (out / "data").symlink_to(inputs / "training" / "data")
    if not (out / "runs" / "demo" / "whole" / "metrics.json").exists():  # a finished run is not started again
        run_training(out, "whole", "callbacks.progress=null")


def _job(*words: str) -> None:
    if status := preprocess(list(words)):
        raise SystemExit(status)


def files_content(out: Path) -> dict[str, Any]:
    """Digest of each file, entries of ledgers without their times; locks and coverage are left out."""
    found: dict[str, Any] = {}
    for path in sorted(out.rglob("*")):
        name = str(path.relative_to(out))
        if path.is_dir() or path.suffix == ".lock" or name.endswith(".coverage.json"):
            continue
        if name.endswith(".ledger.jsonl"):
            found[name] = [(one.id, one.status, one.rows, one.reason) for one in read_ledger(path)]
        elif path.suffix == ".lmdb":
            bank = FeatureBank.open(path.with_suffix(".h5"), "lmdb", verify=True)
            found[name] = {uid: _digest(bank.video_rows(uid).numpy().tobytes()) for uid in bank.videos}
        else:
            found[name] = _digest(path.read_bytes())
    return found


def run_content(out: Path) -> dict[str, Any]:
    """Weights and metrics of a finished run."""
    folder = out / "runs" / "demo" / "whole"
    metrics = json.loads((folder / "metrics.json").read_text())
    return {
        "weights": _digest((folder / "model" / "model.safetensors").read_bytes()),
        "metrics": {name: value for name, value in metrics.items() if not name.startswith("seconds/")},
        "checkpoints": sorted(path.name for path in (folder / "checkpoints").iterdir()),
    }


def difference(expected: dict[str, Any], found: dict[str, Any]) -> str:
    """Show the values that differ, those of nested dicts by their keys."""
    pairs = []
    for key in sorted(expected.keys() | found.keys()):
        one, other = expected.get(key), found.get(key)
        if isinstance(one, dict) and isinstance(other, dict) and one != other:
            pairs.append(f"{key}: {{{difference(one, other)}}}")
        elif one != other:
            pairs.append(f"{key}: {one!r} became {other!r}")
    return "; ".join(pairs)[:1000]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


DRILLS = (
    Drill("ego4d_narrations", narrations, files_content),
    Drill("ego4d_features", features, files_content),
    Drill("videos", videos, files_content),
    Drill("bank_lmdb", bank_lmdb, files_content),
    Drill("training", training, run_content),
)
SHARE_OF_TRAINING = 0.4


def make_inputs(folder: Path) -> None:
    """Make what the jobs read, large enough that each takes about a second."""
    random_values = np.random.default_rng(0)
    told = {}
    for video in range(40):
        entries = [
            {"timestamp_sec": second, "timestamp_frame": 30 * second, "narration_text": f"#C C cuts {video} {second}"}
            for second in range(200)
        ]
        told[f"v{video:02d}"] = {"status": "complete", "narration_pass_1": {"narrations": entries, "summaries": []}}
    (folder / "narration.json").write_text(json.dumps(told))
    about = [{"video_uid": uid, "duration_sec": 200.0, "split_em": None, "split_fho": None} for uid in told]
    (folder / "ego4d.json").write_text(json.dumps({"videos": [one | {"split_av": None} for one in about]}))
    (folder / "features").mkdir()
    for video in range(80):
        rows = random_values.standard_normal((100 + video, 128)).astype(np.float32)
        torch.save(torch.from_numpy(rows), folder / "features" / f"v{video:02d}.pt")
    with BankWriter(folder / "bank.h5", 128, Clock()) as writer:
        for video in range(200):
            writer.add(f"v{video:03d}", random_values.standard_normal((150, 128)).astype(np.float16))
    (folder / "films").mkdir()
    for film in range(9):
        frames = 25 * (2 + film % 3)
        pictures = [numbered(frame, 64, 48) for frame in range(frames)]
        write_video(folder / "films" / f"f{film}.mp4", regular(frames, 25), rate=25, pictures=pictures)


def replace_encoders() -> None:
    """Let the jobs use encoders that cost nothing."""
    text_rows.load_encoder = lambda name, device, batch_size: FakeEncoder(name)
    shard.unload_encoder()
    video_rows.load_video_encoder = lambda config, device: Brightness()


@dataclass(frozen=True)
class Attempt:
    """One forked process: how it ended, and the calls at which one may aim."""

    status: int
    seconds: float
    calls: int
    output: str


def attempt(
    drill: Drill, inputs: Path, out: Path, temporary: Path, kill_s: float | None = None, kill_call: float | None = None
) -> Attempt:
    """Run a command in a forked process group.

    Args:
        drill: the command.
        inputs, out: its folders.
        temporary: its TMPDIR.
        kill_s: kill it after so many seconds.
        kill_call: kill it before the call of this index (3.0), or after it (3.5).
    """
    log, counted = out.with_name(out.name + ".log"), out.with_name(out.name + ".calls")
    log.unlink(missing_ok=True)
    counted.unlink(missing_ok=True)
    started = time.perf_counter()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            os.setpgid(0, 0)
            _redirect(log)
            os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
            with _counted_calls(kill_call) as calls:
                drill.command(inputs, out)
            counted.write_text(str(calls[0]))
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    with contextlib.suppress(OSError):
        os.setpgid(child, child)  # in both processes, so that neither runs ahead of it
    deadline = started + (LIMIT_S if kill_s is None else kill_s)
    while True:
        pid, code = os.waitpid(child, os.WNOHANG)
        if pid:
            break
        if time.perf_counter() > deadline:
            os.killpg(child, signal.SIGKILL)
            _, code = os.waitpid(child, 0)
            break
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what it started
    calls = int(counted.read_text()) if code == 0 else 0  # a kill may have come while the file was written
    text = log.read_text(errors="replace") if log.exists() else ""
    return Attempt(os.waitstatus_to_exitcode(code), time.perf_counter() - started, calls, text)


def _redirect(log: Path) -> None:
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


@contextlib.contextmanager
def _counted_calls(kill_call: float | None) -> Iterator[list[int]]:
    """Count the calls of `os` that change names or flush; kill this process's group before or after one of them."""
    calls = [0]
    before = {name: getattr(os, name) for name in AIMED}

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **kwargs: Any) -> Any:
            index, calls[0] = calls[0], calls[0] + 1
            if kill_call == index:
                os.killpg(0, signal.SIGKILL)
            result = call(*args, **kwargs)
            if kill_call == index + 0.5:
                os.killpg(0, signal.SIGKILL)
            return result

        return counted

    for name, call in before.items():
        setattr(os, name, counting(call))
    try:
        yield calls
    finally:
        for name, call in before.items():
            setattr(os, name, call)


def leftovers(out: Path) -> list[str]:
    """Return the temporary files and the folders of shards below a folder."""
    folders = [out, *(path for path in out.rglob("*") if path.is_dir() and not path.is_symlink())]
    found = [path for folder in folders for path in temporaries_in(folder)]
    return [str(path.relative_to(out)) for path in [*found, *(one for one in folders if "shards" in one.name)]]


def main(arguments: list[str]) -> int:
    """Kill until the number is reached; add a record; return 1 if anything was lost, broken or left."""
    settings = read_settings(Settings, arguments)
    torch.set_num_threads(1)
    replace_encoders()
    draw, kills, started = random.Random(settings.seed), Counter[str](), time.perf_counter()
    drills = [drill for drill in DRILLS if not settings.only or drill.name == settings.only]
    faults: dict[str, list[str]] = {"lost": [], "broken": [], "left": []}
    where, sequences = Counter[str](), 0
    other = Path(tempfile.mkdtemp(prefix="clep-kills-", dir="/dev/shm"))
    with tempfile.TemporaryDirectory(prefix="clep-kills-") as folder:
        inputs = Path(folder) / "inputs"
        inputs.mkdir()
        make_inputs(inputs)
        references = {}
        for drill in drills:
            out = Path(folder) / f"reference-{drill.name}"
            if drill.name == "training":
                run_training(inputs / "training", "whole")  # makes the synthetic dataset, which all runs share
            attempt(drill, inputs, out, Path(folder))  # a first one warms the caches
            shutil.rmtree(out)
            done = attempt(drill, inputs, out, Path(folder))
            if done.status != 0:
                sys.stderr.write(done.output)
                return 1
            references[drill.name] = done, drill.content(out)
        while sum(kills.values()) < settings.kills:
            sequences += 1
            trains = draw.random() < SHARE_OF_TRAINING or len(drills) == 1
            drill = draw.choice([one for one in drills if one.name == "training"] or drills if trains else drills)
            reference, content = references[drill.name]
            out = Path(folder) / f"{sequences:05d}"
            temporary = other if sequences % 2 else Path(folder)
            for _ in range(draw.randint(1, 3)):
                if draw.random() < 0.5:
                    killed = attempt(drill, inputs, out, temporary, kill_s=draw.random() * reference.seconds)
                    kind = "at a random moment"
                else:
                    call = draw.randrange(2 * reference.calls) / 2
                    killed = attempt(drill, inputs, out, temporary, kill_call=call)
                    kind = "aimed at a call"
                if killed.status == -signal.SIGKILL:
                    kills[drill.name] += 1
                    where[f"{kind}, TMPDIR on {'another' if temporary == other else 'the same'} file system"] += 1
                elif killed.status != 0:
                    faults["broken"].append(f"{drill.name} {sequences}: {killed.output[-800:]}")
            last = attempt(drill, inputs, out, temporary) if killed.status != 0 else killed
            if last.status != 0:
                faults["broken"].append(f"{drill.name} {sequences}: {last.output[-800:]}")
            elif (found := drill.content(out)) != content:
                keys = [key for key in content.keys() | found.keys() if content.get(key) != found.get(key)]
                faults["lost"].append(f"{drill.name} {sequences}: {keys}: {difference(content, found)}")
            if left := leftovers(out) + [path.name for path in other.iterdir()]:
                faults["left"].append(f"{drill.name} {sequences}: {left}")
            shutil.rmtree(out, ignore_errors=True)
    shutil.rmtree(other)
    record = {
        "seed": settings.seed,
        "kills": dict(sorted(kills.items())),
        "where": dict(sorted(where.items())),
        "sequences": sequences,
        "seconds": round(time.perf_counter() - started, 1),
        **faults,
    }
    same = add_record(Path(settings.out), code_digest(CODE), record)
    total = Counter[str]()
    for one in same:
        total.update(one["kills"])
    sys.stdout.write(json.dumps(record, indent=2) + f"\nall records of this code: {dict(total)}\n")
    return int(any(faults.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
