"""A directory to the Hugging Face Hub, through its own library: token, address and proxies are what
that library finds in the environment."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from acn_compress.checkpoint.carried import is_carried
from acn_compress.checkpoint.directory import TOLD, is_ours
from acn_compress.errors import ModelDirError
from acn_compress.found import Found


class Uploaded(Found):
    """What lies on the Hub now."""

    repository: str
    url: str
    private: bool
    """As the Hub says it; a repository that was there stays what it is."""
    files: list[str]
    left_out: list[str]
    """Files of the directory that this package does not write."""
    bytes: int


def push(directory: Path, name: str, models: Sequence[str], private: bool = True) -> Uploaded:
    """Upload the files of a directory of ours, and no others, in one commit.

    Args:
        directory: as a step wrote it.
        name: of the repository, OWNER/NAME; without OWNER the token's.
        models: patterns (`fnmatch`) of files that hold one.
        private: of a repository that is made for it.
    Raises:
        ModelDirError: if the directory is not ours, or the Hub does not take it.
    """
    from huggingface_hub import HfApi, errors

    if not is_ours(directory):
        raise ModelDirError(
            f"{directory} was not written by acn-compress (it has no provenance.json of ours), so "
            "it is not uploaded. Name a directory that a step wrote."
        )
    files, others = sorted_out(directory, models)
    failed = (OSError, ValueError, errors.HfHubHTTPError, getattr(errors, "HTTPError", OSError))
    try:
        api = HfApi()
        repository = api.create_repo(name, private=private, exist_ok=True).repo_id
        api.upload_folder(
            repo_id=repository,
            folder_path=directory,
            allow_patterns=[_literally(file) for file in files],
            commit_message="Upload by acn-compress",
        )
        there = api.model_info(repository)
    except failed as error:
        reason = " ".join(str(error).split())[:300] or "no answer"
        raise ModelDirError(
            f"{name}: the Hub did not take {directory} ({type(error).__name__}: {reason}). The "
            "token is that of `hf auth login` or HF_TOKEN, and must be allowed to write."
        ) from None
    return Uploaded(
        repository=repository,
        url=f"{api.endpoint}/{repository}",
        private=bool(there.private),
        files=files,
        left_out=others,
        bytes=sum((directory / file).stat().st_size for file in files),
    )


def sorted_out(directory: Path, models: Sequence[str]) -> tuple[list[str], list[str]]:
    """What is uploaded, and what is not; links that lead out of the directory never are."""
    found = dict(_inside(directory, (*TOLD, *models)))
    return [f for f, goes in found.items() if goes], [f for f, goes in found.items() if not goes]


def _inside(directory: Path, ours: Sequence[str]) -> Iterator[tuple[str, bool]]:
    for path in sorted(directory.rglob("*")):
        if path.is_file():
            name = path.relative_to(directory).as_posix()
            inside = path.resolve().is_relative_to(directory.resolve())
            yield name, inside and (is_carried(name) or any(fnmatchcase(name, p) for p in ours))


def _literally(name: str) -> str:
    """A file as a pattern of fnmatch."""
    return re.sub(r"([\[*?])", r"[\1]", name)
