"""What Slurm's commands print about jobs, parsed and described."""

import pytest

from clep.compute.slurm_queue import JobState, describe_ending, parse_queue


def test_the_output_of_squeue_is_parsed() -> None:
    printed = "12|0|RUNNING|None\n12|13|PENDING|Nodes required for job are DOWN, DRAINED\n 7|N/A|CANCELLED|None\n\n"
    jobs = parse_queue(printed)
    assert list(jobs) == ["12_0", "12_13", "7"]
    assert jobs["12_13"] == JobState("PENDING", "Nodes required for job are DOWN, DRAINED")
    assert [job.over for job in jobs.values()] == [False, False, True]
    assert not JobState("COMPLETING", "").over
    assert not JobState("SOMETHING_NEW", "").over


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (("FAILED", "NonZeroExitCode", "1:0", "n1"), "FAILED, ended with exit status 1, on n1"),
        (("FAILED", "NonZeroExitCode", "137:0", "n1"), "FAILED, killed by signal 9 (out of memory?), on n1"),
        (("OUT_OF_MEMORY", "OutOfMemory", "0:125", "n1"), "OUT_OF_MEMORY, OutOfMemory, on n1"),
        (("CANCELLED by 1000", "None", "0:0", "None assigned"), "CANCELLED by 1000"),
        (("NODE_FAIL", "NodeDown", "0:0", ""), "NODE_FAIL, NodeDown"),
        (("FAILED", "RaisedSignal:11(Segmentation_fault)", "0:11", ""), "FAILED, killed by signal 11 (SIGSEGV)"),
    ],
)
def test_how_a_job_ended(known: tuple[str, str, str, str], expected: str) -> None:
    assert describe_ending(*known) == expected
