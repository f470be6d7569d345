"""Models of the Hugging Face hub, `user/name` or `hf://user/name@revision`: read as data, no code of them is run."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clep.errors import InputError
from clep.remote import is_remote, local_path, suffix

MODEL_FILES = ("config.json", "model.safetensors", "prompts.json", "README.md")
_NAME = re.compile(r"(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>[\w./-]+?))?")
_TOKEN = "log in with `hf auth login`, or set HF_TOKEN"


@dataclass(frozen=True)
class HubName:
    """A model of the hub.

    Attributes:
        repo: `user/name`.
        revision: branch, tag or commit; None for the newest of the main branch.
    """

    repo: str
    revision: str | None = None

    @classmethod
    def parse(cls, name: str | Path) -> "HubName | None":
        """Read `user/name` or `user/name@revision`, also after `hf://`; None for an existing path or another name.

        Raises:
            InputError: it begins with `hf://` and is no such name.
        """
        text = re.sub(r"^hf:/+", "", os.fspath(name))
        is_url = text != os.fspath(name)
        found = _NAME.fullmatch(text.rstrip("/"))
        if found is None and is_url:
            raise InputError(f"{name} is not a model of the hub; write hf://user/name or hf://user/name@revision")
        if found is None or (not is_url and Path(name).exists()):
            return None
        return cls(found["repo"], found["revision"])

    def __str__(self) -> str:
        return f"hf://{self.repo}" + (f"@{self.revision}" if self.revision else "")


def local_model(name: str | Path) -> Path:
    """Return the local path of a model: a path as it is; of a model of the hub, or behind a URL, its copy in the cache.

    Without a network, or with `HF_HUB_OFFLINE=1`, the copy of an earlier call is used.

    Args:
        name: a path, `user/name`, `user/name@revision`, `hf://…`, or the URL of a checkpoint or of a folder of a model.

    Raises:
        InputError: there is no such model or revision, it is refused, or the hub cannot be reached and no copy exists.
    """
    found = HubName.parse(name)
    if found is None:
        return local_path(name, () if suffix(name) else (".json", ".safetensors"))
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(
            found.repo,
            revision=found.revision,
            allow_patterns=list(MODEL_FILES),
            endpoint=os.environ.get("HF_ENDPOINT"),
            library_name="clep",
        )
    except Exception as error:
        raise _explain(found, error, is_path=not is_remote(name)) from error
    return Path(folder)


def upload(folder: Path, repo: str, files: Sequence[str], private: bool, message: str) -> str:
    """Upload files of a folder to a model of the hub, made where it is missing; return its address.

    Raises:
        InputError: no token is found, the hub refuses it, or cannot be reached.
    """
    from huggingface_hub import HfApi

    name = HubName.parse(repo)
    if name is None or name.revision is not None:
        raise InputError(f"repo={repo} must be user/name, the name of the model in the hub")
    check_token()
    api: Any = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), library_name="clep")
    try:
        api.create_repo(name.repo, private=private, exist_ok=True)
        done = api.upload_folder(
            repo_id=name.repo, folder_path=folder, allow_patterns=list(files), commit_message=message
        )
    except Exception as error:
        raise _explain(name, error) from error
    return str(done.commit_url)


def check_token() -> None:
    """Raise an InputError where no token of the hub is found."""
    from huggingface_hub import get_token

    if not get_token():
        raise InputError(f"an upload needs a token of the hub: {_TOKEN}; dry_run=true only writes the folder")


def _explain(name: HubName, error: BaseException, is_path: bool = False) -> InputError:
    """Return the InputError for an exception of huggingface_hub."""
    kinds = {one.__name__ for one in type(error).__mro__}
    status = getattr(getattr(error, "response", None), "status_code", None)
    nothing = f"{name.repo} is not a path here, and" if is_path else f"{name}:"
    if "GatedRepoError" in kinds:
        return InputError(f"{name} is gated: accept its terms on its page in the hub, and {_TOKEN}")
    if "RevisionNotFoundError" in kinds:
        return InputError(f"{name}: there is no revision {name.revision!r}; give a branch, tag or commit")
    if "RepositoryNotFoundError" in kinds:
        return InputError(f"{nothing} the hub has no such model; check the name, and for a private one {_TOKEN}")
    if "LocalEntryNotFoundError" in kinds or "OfflineModeIsEnabled" in kinds:
        return InputError(
            f"{nothing} the hub cannot be reached and no copy of {name} is in the cache; check the path and the "
            f"network, and HF_HUB_OFFLINE, which must not be set"
        )
    if status in (401, 403):
        return InputError(f"{name}: the hub refuses this token; {_TOKEN}, with the right to write for an upload")
    reason = (str(error) or type(error).__name__).splitlines()[0][:300]
    return InputError(f"{nothing} the hub cannot be used now ({type(error).__name__}: {reason}); try again later")
