"""The configuration: what may stand there, and that its example says how things are."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
from smtp_milter import _config as config
from smtp_milter._config import AllowListConfig, Config, ConfigError, GatewayConfig, SinkConfig
from smtp_milter._dialogue import Tell

FILE = Path(config.__file__).parent / "smtp_milter.toml"
LEAST = '[[gateway]]\naddress = "inet:127.0.0.1:25"\n'
SINK = "[sink]\nlisten = 'unix:/run/sink'\n"


def test_the_least() -> None:
    """One gateway, and all else by default."""
    made = config.parse(LEAST)
    assert made == Config(gateway=[GatewayConfig(address="inet:127.0.0.1:25")], name=made.name)


def test_the_example() -> None:
    """It works as it is; with every line in force it says the defaults, and names all there is."""
    text = FILE.read_text()
    assert config.load(FILE).gateway[0].address == "inet:127.0.0.1:10025"
    every = config.parse(re.sub(r"(?m)^#(?=[a-z_0-9]+ = |\[)", "", text))
    database = "postgresql+asyncpg://user@host/name"
    assert every == Config(
        gateway=[GatewayConfig(address="inet:127.0.0.1:10025")],
        name="mx.example.test",
        sink=SinkConfig(listen="inet:127.0.0.1:10026"),
        allow_list=AllowListConfig(database=database),
    )
    named = re.findall(r"(?m)^#?([a-z_0-9]+) = |^#?\[+([a-z_]+)\]", text)
    kinds = (Config, GatewayConfig, SinkConfig, AllowListConfig, config.Timeouts)
    fields = sorted(field.name for kind in kinds for field in attrs.fields(kind))
    assert sorted(one or other for one, other in named) == fields


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "gateway"),
        ("gateway = []", "there is no"),
        (LEAST + "tell = 'telepathy'", "none of auto, xclient"),
        (LEAST + "connections = '20'", "no int"),
        (LEAST + "connections = true", "no int"),
        (LEAST + "rest = 'x'", "no float"),
        ("dry_run = 1\n" + LEAST, "no bool"),
        ("dry-run = true\n" + LEAST, "dry-run"),
        ("mode = '999'\n" + LEAST, "octal"),
        ("connect = 'rcpt'\n" + LEAST, "none of mail, connect @ file.connect"),
        ("sink = 'x'\n" + LEAST, "no table @ file.sink"),
        (LEAST.replace("[[gateway]]", "[gateway]"), "two pairs of brackets"),
        ("unscanned_header = 'x'\n" + LEAST, "Name: value"),
        ("connect = 'connect'\n" + LEAST + "[allow_list]\ndatabase = 'x'", "exclude each other"),
        (LEAST + SINK + "foreign = 'relay'", "needs relay_to"),
        (LEAST + SINK + "foreign = 'relay'\nrelay_to = 'mx:25'", "'mx:25' is not inet:"),
        (LEAST + SINK + "allow = '127.0.0.1'", "'127.0.0.1' is no list"),
        (LEAST + SINK + "allow = ['127.0.0.0/8']", "'127.0.0.0/8' does not appear"),
        (LEAST + SINK + "known_by = []", "at least one way"),
        (LEAST + "[sink]\nlisten = 'inet:127.0.0.1:25'", "is an address of ours"),
        ("listen = ['inet:127.0.0.1:25']\n" + LEAST, "is an address of ours"),
        (LEAST + SINK + "known_by = ['mark']", "none of header, xforward, echo"),
        (LEAST + SINK + "mark = 'X Mark'", "mark = 'X Mark' is no name of a field"),
        (LEAST + "[sink]\nlisten = 'x'", "'x' is not inet:"),
        (LEAST.replace("25", "65536"), "'inet:127.0.0.1:65536' is not inet:"),
        (LEAST + "connections = 0", "connections = 0 is no number above 0"),
        (LEAST + "failures = 0", "failures"),
        (LEAST + "rest = inf", "rest"),
        (LEAST + "wait_for_connection = nan", "wait_for_connection"),
        (LEAST + "[timeouts]\nend = -1", "end = -1 is no number of seconds"),
        (LEAST + "[allow_list]\ndatabase = 'x'\npatience = 0", "patience"),
        ("max_size = 0\n" + LEAST, "max_size"),
        ("listen = []\n" + LEAST, "at least one address"),
        ("listen = ['8895']\n" + LEAST, "'8895' is not inet:"),
        ("listen = 'inet:127.0.0.1:8895'\n" + LEAST, "is no list"),
        ("name = 'my host'\n" + LEAST, "name = 'my host' is no name of a host"),
        ("metrics = '9300'\n" + LEAST, "metrics = '9300' is no host:port"),
        ("unscanned_header = 'X Y: z'\n" + LEAST, "Name: value"),
        ("listen = ", "at end of document"),
    ],
)
def test_what_can_not_be(text: str, says: str) -> None:
    """An error that names it."""
    with pytest.raises(ConfigError) as raised:
        config.parse(text)
    assert says in str(raised.value)


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    """Likewise."""
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "none")
    (tmp_path / "latin").write_bytes(b"name = '\xe4'")
    with pytest.raises(ConfigError, match="utf-8"):
        config.load(tmp_path / "latin")


def test_addresses() -> None:
    """As for listening; names will do."""
    assert config.target("inet:gateway.test:25") == ("gateway.test", 25)
    assert config.target("inet6:[::1]:25") == ("::1", 25)
    assert config.target("unix:/run/x") == Path("/run/x")
    for wrong in ("unix:", "inet:host", "inet::25", "host:25", "inet:host:x"):
        with pytest.raises(ValueError, match="is not inet:"):
            config.target(wrong)


def test_ways_to_tell() -> None:
    """By their names in the file."""
    for tell in Tell:
        assert config.parse(LEAST + f"tell = '{tell.value}'").gateway[0].tell is tell
