"""The working tree beside a git ref: which files differ, and what each said then and says now.

Invariants: git is called without a shell, and a ref becomes a commit before anything else is asked of it, so that no
ref and no path is ever read as an option, a command or another ref; nothing is written, not even git's index.
"""

import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ml_platform.errors import PlatformError
from ml_platform.wording import nearest

What = Literal["added", "changed", "deleted"]
GIT_SECONDS = 60


class GitRefused(PlatformError):
    """git is not there, this is no repository of its, or it knows no such ref."""


@dataclass(frozen=True)
class Revision:
    """`ref` as it was asked for; `commit`: where the working tree's branch left it, or else the ref's own."""

    ref: str
    commit: str


@dataclass(frozen=True)
class Changed:
    """A file that differs; `path` is relative to the repository, with `/`."""

    path: str
    what: What
    repository: Path = field(repr=False, compare=False)
    commit: str = field(repr=False, compare=False)

    def texts(self) -> tuple[str, str]:
        """What the file said at the commit, and what it says now. Raises OSError, UnicodeDecodeError, GitRefused."""
        now = self.repository / self.path
        if now.is_symlink():
            raise OSError(f"{self.path} is a link")
        before = _git(self.repository, "cat-file", "blob", f"{self.commit}:{self.path}")
        return before.decode(), now.read_text()


def resolve(repository: Path, ref: str) -> Revision:
    """The commit to compare with: the common ancestor of the ref and HEAD, so that what others have done since does not
    count. Raises GitRefused with the nearest refs."""
    _git(repository, "rev-parse", "--git-dir")
    try:
        asked = (
            ""
            if "\0" in ref
            else _git(repository, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        )
        commit = asked.decode().strip() if asked else ""
    except GitRefused:
        commit = ""
    if not commit:
        known = _git(repository, "for-each-ref", "--format=%(refname:short)").decode(errors="replace").split()
        near = nearest(ref, {name: name for name in known})
        hint = f"did you mean {', '.join(near)}?" if near else "name a branch, a tag or a commit that is in this clone"
        raise GitRefused(f"git knows no commit {ref!r}", where="--base", next_step=hint)
    try:
        ancestor = _git(repository, "merge-base", commit, "HEAD").decode().strip()
    except GitRefused:  # a shallow clone, or another history
        ancestor = commit
    return Revision(ref, ancestor)


def changed_files(repository: Path, revision: Revision) -> list[Changed]:
    """Every file that differs from the revision, by path; new files count unless git ignores them."""
    compared = ("--name-status", "-z", "--no-renames", "--no-ext-diff", "--end-of-options", revision.commit, "--")
    told = _git(repository, "diff", *compared)
    words = iter(_names(told))
    kinds: dict[str, What] = {"A": "added", "D": "deleted"}
    found: dict[str, What] = {path: kinds.get(status, "changed") for status, path in zip(words, words)}
    for path in _names(_git(repository, "ls-files", "--others", "--exclude-standard", "-z")):
        found[path] = "changed" if path in found else "added"
    return [Changed(path, what, repository, revision.commit) for path, what in sorted(found.items())]


def _names(told: bytes) -> list[str]:
    return [os.fsdecode(name) for name in told.split(b"\0") if name]


def _git(repository: Path, *arguments: str) -> bytes:
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_LITERAL_PATHSPECS": "1"}
    try:
        done = subprocess.run(
            ["git", "-C", str(repository), *arguments],
            capture_output=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GitRefused(f"git cannot be run: {error}", where=repository, next_step="install git") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or f"git {arguments[0]} failed"
        raise GitRefused(said, where=repository, next_step="run it in a clone of the repository")
    return done.stdout
