import subprocess
from pathlib import Path

import pytest

from ml_platform.tracking.commit import git_commit


def test_the_commit_is_named_with_a_mark_when_tracked_files_differ(tmp_path: Path) -> None:
    assert git_commit(tmp_path) == "unknown"
    (tmp_path / "file").write_text("one")
    identity = ["-c", "user.name=ada", "-c", "user.email=ada@example.org"]
    for command in (["init", "-q"], ["add", "file"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True)
    commit = git_commit(tmp_path)
    assert len(commit) == 40
    (tmp_path / "file").write_text("two")
    assert git_commit(tmp_path) == f"{commit}+changes"


def test_an_image_without_git_states_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ML_PLATFORM_GIT_COMMIT", "abc123")
    assert git_commit(tmp_path) == "abc123"
