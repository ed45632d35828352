"""Which code an attempt ran: the commit, and whether files differed from it."""

import os
import subprocess
from pathlib import Path


def git_commit(repository: Path) -> str:
    """The commit's hash, with `+changes` when tracked files differ from it; `unknown` outside a repository.

    An image without git states it in ML_PLATFORM_GIT_COMMIT.
    """
    stated = os.environ.get("ML_PLATFORM_GIT_COMMIT")
    if stated:
        return stated
    commit = _git(repository, "rev-parse", "HEAD")
    if commit is None:
        return "unknown"
    return f"{commit}+changes" if _git(repository, "status", "--porcelain", "--untracked-files=no") else commit


def _git(repository: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", repository, *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
