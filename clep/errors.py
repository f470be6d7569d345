"""The exception whose message is written for users; commands print it without a traceback."""

import re

_FOLDED_URL = re.compile(r"(?<![\w./])(s3a?|hf|https?|gs|gcs|az|abfs|memory):/(?=[^/\s])")


class InputError(ValueError):
    """Something the user gave cannot be used: a file, a config value, an option.

    Its message names the file, the key and the remedy. Command lines print it without a traceback and exit with status
    1. URLs that `pathlib` folded to `s3:/bucket/key` are written with `://` again.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(_FOLDED_URL.sub(r"\1://", str(message)))
