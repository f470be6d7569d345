"""Published video–language models, one family a file: load a released checkpoint, embed clips and sentences.

```python
model = load_published("lavila", "clip_openai_timesformer_base.pt")
video = model.encode_video(model.video_transform(frames)[None])  # frames: uint8 [4, 3, height, width]; [1, 256]
tokens = model.tokenize(["#C C opens the fridge"])
text = model.encode_text(tokens.ids, tokens.mask)  # [1, 256]
```

`PublishedEncoder` makes feature banks of videos with such a model, `load_sentence_encoder("lavila:FILE")` text banks
in the same space.
"""

from clep.models.published.encoder import PublishedEncoder
from clep.models.published.loading import KINDS, load_published, load_sentence_encoder
from clep.models.published.model import PublishedModel, Tokens
from clep.models.published.pixels import PublishedClip

__all__ = [
    "KINDS",
    "PublishedClip",
    "PublishedEncoder",
    "PublishedModel",
    "Tokens",
    "load_published",
    "load_sentence_encoder",
]
