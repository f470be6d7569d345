"""The long-term demo's benchmark at toy size."""

import json
from pathlib import Path

import pytest

from benchmarks import demo_long_term


@pytest.mark.slow
def test_demo_long_term(tmp_path: Path) -> None:
    settings = ["training_videos=4", "test_videos=2", "shortest_s=60", "longest_s=70"]
    settings.append("encoder={_target_: clep.demo.EncoderSettings, dim: 16, hidden: 8}")
    small = [f"+synthetic.dataset.{word}" for word in settings]
    small += ["data.batch_size=16", "trainer.max_epochs=1", "operator.latent_dim=8"]
    lists = [f"overrides={json.dumps(small)}", "seeds=[3]", "operators=[none,nl]", "processes=2"]
    result = demo_long_term.main([f"results={tmp_path / 'results'}", f"data={tmp_path / 'data'}", *lists])
    assert [row["row"] for row in result["rows"]] == ["operator=none", "operator=nl"]
    assert all(cell["metrics"]["choice/now/chance"] == 25 for cell in result["cells"])
    assert not (tmp_path / "data" / "demo_long_term").exists()
    written = json.loads((tmp_path / "results" / "demo_long_term.json").read_text())
    assert written["machine"]["torch"]
    assert set(written["targets"]) == {
        f"{group}: {what}"
        for group in demo_long_term.PAST
        for what in ("without context, points beside chance", "operator=nl, gain in points")
    }
