"""Settings: defaults < file < environment; a refusal names what, where, allowed."""

from pathlib import Path

import pytest

from dorabatch.config import Settings, read_settings
from dorabatch.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a settings file may be written."""
    return tmp_path / "dorabatch.yaml"


def test_defaults() -> None:
    settings = read_settings(None, {})
    assert settings == Settings()
    assert settings.database_url == "sqlite:////var/lib/dorabatch/dorabatch.db"


def test_an_empty_file_changes_nothing(file: Path) -> None:
    file.write_text("# nothing\n")
    assert read_settings(file, {}) == Settings()


def test_the_file_beats_defaults_and_the_environment_beats_the_file(
    file: Path,
) -> None:
    file.write_text("zone: z1\ncycle: {seed: 3, interval_seconds_max: 2}\n")
    environment = {
        "DORABATCH_CYCLE__SEED": "9",
        "DORABATCH_ADMINS": "[root, ops]",
        "DORABATCH_DATABASE": "postgresql+psycopg://dora@/dora",
        "PATH": "/bin",
        "DORABATCH_FAULT_CRASH_AT": "created",
    }
    settings = read_settings(file, environment)
    assert settings.zone == "z1"
    assert settings.cycle.seed == 9
    assert settings.cycle.interval_seconds_max == 2
    assert settings.cycle.interval_seconds_min == Settings().cycle.interval_seconds_min
    assert settings.admins == ("root", "ops")
    assert settings.database_url == "postgresql+psycopg://dora@/dora"


def test_settings_cannot_be_changed_later() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings().zone = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "key", "known"),
    [
        ("zonne: a\n", "zonne", "zone"),
        ("cycle: {sed: 1}\n", "cycle.sed", "seed"),
        ("launch: {retries: 1}\n", "launch.retries", "lost_requeues_max"),
    ],
)
def test_an_unknown_key_names_the_known_ones(
    file: Path, text: str, key: str, known: str
) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_settings(file, {})
    assert str(file) in caught.value.message
    assert repr(key) in caught.value.message
    assert known in caught.value.message.split("known there:")[1]


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("zone: Not A Zone\n", "zone", "'Not A Zone'"),
        ("ssh: {port: 70000}\n", "ssh.port", "70000"),
        ("node: {poll_seconds: 0}\n", "node.poll_seconds", "0"),
        ("launch: {interrupted: maybe}\n", "launch.interrupted", "'maybe'"),
        ("launch: {lost_requeues_max: -1}\n", "launch.lost_requeues_max", "-1"),
        ("launch: {avoid_node_seconds: 0}\n", "launch.avoid_node_seconds", "0"),
        (
            "launch: {registry_retry_seconds: -2}\n",
            "launch.registry_retry_seconds",
            "-2",
        ),
        ("node: {refusals_max: 0}\n", "node.refusals_max", "0"),
        (
            "node: {refusing_retry_seconds: no}\n",
            "node.refusing_retry_seconds",
            "False",
        ),
        ("mail: {admins: [a b]}\n", "mail.admins.0", "'a b'"),
        ("limits: {pending_max: many}\n", "limits.pending_max", "'many'"),
        ("cycle: {placement_policy: best}\n", "cycle.placement_policy", "'best'"),
        ("socket_mode: '999'\n", "socket_mode", "'999'"),
        ("cycle:\n", "cycle", "None"),
        ("log_level: loud\n", "log_level", "'loud'"),
    ],
)
def test_a_wrong_value_names_file_key_and_value(
    file: Path, text: str, key: str, value: str
) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_settings(file, {})
    assert f"{file}: {key} = {value}: " in caught.value.message
    assert caught.value.exit_status == 5


def test_a_wrong_variable_is_named(file: Path) -> None:
    with pytest.raises(ConfigError, match=r"ssh\.port = 0"):
        read_settings(None, {"DORABATCH_SSH__PORT": "0"})


@pytest.mark.parametrize(
    ("text", "words"), [("a: [\n", "not YAML"), ("- a\n", "keys and values at the top")]
)
def test_a_broken_file_is_named(file: Path, text: str, words: str) -> None:
    file.write_text(text)
    with pytest.raises(ConfigError, match=words) as caught:
        read_settings(file, {})
    assert str(file) in caught.value.message


def test_a_missing_file_is_named(file: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        read_settings(file, {})
    assert str(file) in caught.value.message


def test_a_section_and_its_parts_cannot_both_be_set() -> None:
    with pytest.raises(ConfigError, match="both set"):
        read_settings(None, {"DORABATCH_CYCLE": "5", "DORABATCH_CYCLE__SEED": "1"})


def test_a_mode_may_be_written_as_a_number() -> None:
    assert read_settings(None, {"DORABATCH_SOCKET_MODE": "660"}).socket_mode == "660"
