import pytest

from ml_platform.redaction import REDACTED, looks_secret, redact, redact_text


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "SNOWFLAKE_PASSWORD",
        "api_key",
        "apiKey",
        "AWS_SECRET_ACCESS_KEY",
        "auth-token",
        "dbCredentials",
        "ML_PLATFORM_SLACK_URL",
        "ML_PLATFORM_PAGERDUTY_KEY",
        "routing_key",
    ],
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


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("login failed: user=ada password=hunter2 host=db", f"login failed: user=ada password={REDACTED} host=db"),
        ('{"apiKey": "k9-3f", "rows": 7}', f'{{"apiKey": "{REDACTED}", "rows": 7}}'),
        ("sent Authorization: Bearer abc.def-123", f"sent Authorization: Bearer {REDACTED}"),
        ("POST https://hooks.slack.com/services/T1/B2/x3 failed", f"POST https://hooks.slack.com/{REDACTED} failed"),
        ("with AKIAIOSFODNN7EXAMPLE and xoxb-12-ab", f"with {REDACTED} and {REDACTED}"),
    ],
)
def test_a_value_given_under_the_name_of_a_secret_or_in_its_shape_is_hidden(text: str, shown: str) -> None:
    assert redact_text(text, {}) == shown


@pytest.mark.parametrize(
    "text", ["unexpected token: end of line", "max_tokens=200", "auth: refused", "key=household_id"]
)
def test_words_that_only_stand_beside_such_a_name_stay(text: str) -> None:
    assert redact_text(text, {}) == text
