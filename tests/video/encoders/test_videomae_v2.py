"""VideoMAE v2's files against its forward pass, written out."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import conv3d, gelu, layer_norm, linear

from clep.config.build import build_module
from clep.errors import InputError
from clep.video.encoders import VideoMAEv2
from tests.video.encoders import tiny_models

WIDTH, HEADS, LAYERS, PATCH, SIZE, FRAMES = 16, 2, 2, 8, 16, 4


def checkpoint(last: str = "fc_norm") -> dict[str, Tensor]:
    state = {"patch_embed.proj.weight": (WIDTH, 3, 2, PATCH, PATCH), "patch_embed.proj.bias": (WIDTH,)}
    for layer in range(LAYERS):
        block = f"blocks.{layer}."
        state |= {f"{block}attn.q_bias": (WIDTH,), f"{block}attn.v_bias": (WIDTH,)}
        state |= {f"{block}attn.qkv.weight": (3 * WIDTH, WIDTH)}
        for name, out, into in (("attn.proj", WIDTH, WIDTH), ("mlp.fc1", 40, WIDTH), ("mlp.fc2", WIDTH, 40)):
            state |= {f"{block}{name}.weight": (out, into), f"{block}{name}.bias": (out,)}
        for name in ("norm1", "norm2"):
            state |= {f"{block}{name}.weight": (WIDTH,), f"{block}{name}.bias": (WIDTH,)}
    state |= {f"{last}.weight": (WIDTH,), f"{last}.bias": (WIDTH,), "head.weight": (3, WIDTH), "head.bias": (3,)}
    return {name: torch.randn(shape) * 0.3 for name, shape in state.items()}


def embed(state: dict[str, Tensor], clips: Tensor) -> Tensor:
    """The mean of all tokens of the original model, and its norm."""
    x = conv3d(
        clips.transpose(1, 2), state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], (2, PATCH, PATCH)
    )
    x = x.flatten(2).transpose(1, 2)
    angle = np.arange(x.shape[1])[:, None] / np.power(10000, 2 * (np.arange(WIDTH) // 2) / WIDTH)
    angle[:, 0::2], angle[:, 1::2] = np.sin(angle[:, 0::2]), np.cos(angle[:, 1::2])
    x = x + torch.from_numpy(angle).float()

    def norm(x: Tensor, name: str) -> Tensor:
        return layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], 1e-6)

    for layer in range(LAYERS):
        block = f"blocks.{layer}."
        bias = torch.cat([state[f"{block}attn.q_bias"], torch.zeros(WIDTH), state[f"{block}attn.v_bias"]])
        qkv = linear(norm(x, f"{block}norm1"), state[f"{block}attn.qkv.weight"], bias)
        query, key, value = qkv.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        seen = ((query @ key.transpose(-1, -2)) * (WIDTH // HEADS) ** -0.5).softmax(-1) @ value
        seen = seen.transpose(1, 2).flatten(2)
        x = x + linear(seen, state[f"{block}attn.proj.weight"], state[f"{block}attn.proj.bias"])
        hidden = gelu(linear(norm(x, f"{block}norm2"), state[f"{block}mlp.fc1.weight"], state[f"{block}mlp.fc1.bias"]))
        x = x + linear(hidden, state[f"{block}mlp.fc2.weight"], state[f"{block}mlp.fc2.bias"])
    return norm(x.mean(1), "fc_norm") if "fc_norm.weight" in state else norm(x, "norm").mean(1)


@pytest.mark.parametrize("last", ["fc_norm", "norm"])
def test_rows_are_those_of_the_original_forward_pass(tmp_path: Path, last: str) -> None:
    state = checkpoint(last)
    clips = torch.randn(2, FRAMES, 3, SIZE, SIZE)
    torch.save({"module": state}, tmp_path / "vit_b.pth")
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "config.json").write_text('{"auto_map": {"AutoModel": "modeling_videomaev2.VideoMAEv2"}}')
    (folder / "modeling_videomaev2.py").write_text("raise RuntimeError('this code must not run')")
    save_file({f"model.{name}": value for name, value in state.items()}, folder / "model.safetensors")
    for weights in (tmp_path / "vit_b.pth", folder):
        encoder = VideoMAEv2(str(weights), frames=FRAMES, crop_px=SIZE, heads=HEADS)
        torch.testing.assert_close(encoder(clips), embed(state, clips), atol=1e-5, rtol=1e-5)
    again = build_module(encoder.architecture())
    again.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(again(clips), encoder(clips))


class RunsCode:
    """What a malicious checkpoint would hold."""

    def __reduce__(self):
        return os.system, ('touch "$CLEP_TEST_CANARY"',)


def test_files_that_do_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pth"
    torch.save({"module": checkpoint()}, path)
    with pytest.raises(InputError, match="16 wide, and the file does not hold the number of heads: give heads"):
        VideoMAEv2(str(path))
    state = checkpoint()
    del state["blocks.1.mlp.fc2.bias"]
    torch.save(state, path)
    with pytest.raises(InputError, match=r"1 missing \(encoder\.layer\.1\.output\.dense\.bias\)"):
        VideoMAEv2(str(path), heads=2)
    monkeypatch.setenv("CLEP_TEST_CANARY", str(tmp_path / "canary"))
    torch.save({"module": RunsCode()}, path)
    with pytest.raises(InputError, match=r"a\.pth is an unsafe pickle"):
        VideoMAEv2(str(path), heads=2)
    assert not (tmp_path / "canary").exists()
    with pytest.raises(InputError, match="there is no such file, folder or model of the hub"):
        VideoMAEv2(str(tmp_path / "none.pth"))
    tiny_models.timesformer(tmp_path / "other")
    with pytest.raises(InputError, match=r"model\.safetensors is not a VideoMAE v2 checkpoint"):
        VideoMAEv2(str(tmp_path / "other"))
