"""Child process of `benchmarks.extraction`: encode a video, or only decode it, and print the memory used.

`peak_mb` is what the process had to itself at most (RssAnon of /proc/self/status, looked at after each block of rows),
`high_water_mb` the most that was in memory, shared libraries and mapped files included (VmHWM). Linux only.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import av
import torch
from torch import Tensor

from benchmarks.machine import process_memory_mb
from benchmarks.report import read_settings
from clep.video import ClipSpec, DenseWindows, VideoEncoder, encode_video


@dataclass
class Settings:
    """Of the child; `bare` decodes with PyAV alone."""

    film: str = ""
    bare: bool = False


class MeanColour(VideoEncoder):
    """The mean colour of a clip of eight small frames: an encoder that costs nothing."""

    name = "mean-colour"
    clip = ClipSpec(8, 64, 64, (0.5,) * 3, (0.5,) * 3)
    dim = 3

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the mean over frames and places, `[clips, 3]`."""
        return pixels.mean((1, 3, 4))


def main(words: Sequence[str] | None = None) -> None:
    """Encode or decode, then print the figures as one line of JSON."""
    settings = read_settings(Settings, words)
    torch.set_num_threads(1)
    peak = 0.0
    if settings.bare:
        with av.open(settings.film) as container:
            for number, _ in enumerate(container.decode(video=0)):
                if number % 100 == 0:
                    peak = max(peak, process_memory_mb("RssAnon"))
    else:
        for _ in encode_video(settings.film, MeanColour(), DenseWindows()):
            peak = max(peak, process_memory_mb("RssAnon"))
    print(json.dumps({"peak_mb": round(peak, 2), "high_water_mb": round(process_memory_mb("VmHWM"), 2)}))


if __name__ == "__main__":
    main()
