import subprocess
from pathlib import Path

import pytest

from ml_platform.tracking.commit import git_commit
from ml_platform.tracking.redaction import REDACTED, looks_secret, redact, redact_text


@pytest.mark.parametrize(
    "name",
    ["password", "SNOWFLAKE_PASSWORD", "api_key", "apiKey", "AWS_SECRET_ACCESS_KEY", "auth-token", "dbCredentials"],
)
def test_names_of_secrets_are_recognised(name: str) -> None:
    assert looks_secret(name)
    assert redact(name, "abc", {}) == REDACTED


@pytest.mark.parametrize("name", ["max_tokens", "key", "monkey", "author", "primary_key", "secretary_count", "rounds"])
def test_innocent_names_keep_their_values(name: str) -> None:
    assert redact(name, 3, {}) == "3"


def test_secrets_of_the_environment_are_hidden_wherever_they_turn_up() -> None:
    environ = {"DB_PASSWORD": "hunter2-hunter2", "HOME": "/home/ada"}
    assert redact("dsn", "login hunter2-hunter2 from /home/ada", environ) == f"login {REDACTED} from /home/ada"


def test_a_secret_too_short_to_be_one_does_not_blot_out_figures() -> None:
    assert redact_text("rounds 200", {"FLAG_TOKEN": "0"}) == "rounds 200"


def test_passwords_in_urls_are_hidden_and_the_rest_stays() -> None:
    assert redact_text("see postgresql://ada:pa:ss@db:5432/x", {}) == f"see postgresql://ada:{REDACTED}@db:5432/x"
    assert redact_text("http://127.0.0.1:5000/a@b", {}) == "http://127.0.0.1:5000/a@b"


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
