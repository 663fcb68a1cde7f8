"""Settings, their sources and their checks; UNSET, Secret, and names that nobody knows."""

import copy
import math
import pickle

import pytest

from pynector._config import (
    SETTINGS,
    UNSET,
    Secret,
    UnsetType,
    check_config,
    check_count,
    check_flag,
    check_names,
    check_timeout,
    resolve,
)
from pynector.errors import ConfigurationError


def test_unset():
    assert not UNSET
    assert repr(UNSET) == str(UNSET) == "UNSET"
    assert isinstance(UNSET, UnsetType)
    assert pickle.loads(pickle.dumps(UNSET)) is UNSET
    assert copy.deepcopy(UNSET) is UNSET


def test_defaults():
    found = {name: resolve(name, environ={}) for name in SETTINGS}
    assert found == {
        "timeout": None,
        "max_retries": 3,
        "max_concurrency": 10,
        "batch_item_spans": 100,
        "batch_attempt_spans": 10_000,
        "http_engine": "httpx",
        "base_url": "",
    }
    assert all(setting.variable == f"PYNECTOR_{name.upper()}" for name, setting in SETTINGS.items())


def test_the_order_of_the_sources():
    environ = {"PYNECTOR_MAX_RETRIES": "1"}
    config = {"max_retries": 2}
    assert resolve("max_retries", UNSET, environ=environ) == 1
    assert resolve("max_retries", UNSET, config=config, environ=environ) == 2
    assert resolve("max_retries", UNSET, 3, 4, config=config, environ=environ) == 3
    assert resolve("max_retries", 0, 4, config=config, environ=environ) == 0
    assert resolve("max_retries", config={}, environ=environ) == 1
    assert resolve("max_retries", config={"max_retries": UNSET}, environ=environ) == 1


def test_an_empty_base_url_is_a_value():
    assert resolve("base_url", "", environ={"PYNECTOR_BASE_URL": "http://h"}) == ""


def test_none_is_a_value():
    assert resolve("timeout", None, environ={"PYNECTOR_TIMEOUT": "5"}) is None
    assert resolve("timeout", config={"timeout": None}, environ={"PYNECTOR_TIMEOUT": "5"}) is None


def test_the_real_environment(monkeypatch):
    monkeypatch.setenv("PYNECTOR_TIMEOUT", "2.5")
    assert resolve("timeout") == 2.5
    monkeypatch.delenv("PYNECTOR_TIMEOUT")
    assert resolve("timeout") is None


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("timeout", "1", 1.0),
        ("timeout", " 0.5 ", 0.5),
        ("timeout", "None", None),
        ("timeout", "", None),
        ("timeout", "  ", None),
        ("max_retries", "0", 0),
        ("max_concurrency", "1", 1),
        ("max_concurrency", "", 10),
        ("http_engine", "httpx", "httpx"),
        ("base_url", "http://h:80/x", "http://h:80/x"),
    ],
)
def test_the_environment_is_parsed(name, text, value):
    found = resolve(name, environ={SETTINGS[name].variable: text})
    assert found == value
    assert type(found) is type(value)


BAD_TEXT = {
    "timeout": ["0", "-1", "nan", "inf", "soon", "1s"],
    "max_retries": ["-1", "1.5", "many", "nan"],
    "max_concurrency": ["0", "-3", "1.0", "ten"],
    "http_engine": ["curl", "HTTPX"],
    "base_url": ["h", "/path", "ftp://h", "https://", "https://h:port"],
}
BAD_VALUES = {
    "timeout": [0, -1.0, math.nan, math.inf, True, "5", [], 10**400],
    "max_retries": [-1, 1.0, True, "3", None],
    "max_concurrency": [0, -3, 2.5, True, "10", None],
    "http_engine": ["curl", None, 1, []],
    "base_url": [None, 7, b"http://h", "h"],
}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name in BAD_TEXT for text in BAD_TEXT[name]])
def test_a_bad_variable_is_named(name, text):
    with pytest.raises(ConfigurationError) as caught:
        resolve(name, environ={SETTINGS[name].variable: text})
    assert f"variable `{SETTINGS[name].variable}`: " in str(caught.value)
    assert SETTINGS[name].accepts in str(caught.value)
    assert (repr(text) in str(caught.value)) is (name != "base_url")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in BAD_VALUES for value in BAD_VALUES[name]])
def test_a_bad_argument_or_config_is_named(name, value):
    argument = {"http_engine": "engine"}.get(name, name)
    with pytest.raises(ConfigurationError, match=rf"argument `{argument}`: .* is not accepted; give "):
        resolve(name, UNSET, value)
    with pytest.raises(ConfigurationError, match=rf'config\["{name}"\]: .* is not accepted; give '):
        resolve(name, config={name: value})


def test_a_bad_base_url_is_not_shown():
    with pytest.raises(ConfigurationError) as caught:
        resolve("base_url", "ftp://me:hunter2@h")
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_long_value_is_cut():
    with pytest.raises(ConfigurationError) as caught:
        resolve("max_retries", "x" * 10_000)
    assert len(str(caught.value)) < 200


def test_check_config():
    config = {"timeout": 1}
    assert check_config(config) is config
    assert check_config(None) == {}
    with pytest.raises(ConfigurationError, match="unknown config key 'time_out': did you mean 'timeout'"):
        check_config({"time_out": 1})
    with pytest.raises(ConfigurationError, match=r"argument `config`: expected a mapping, got list"):
        check_config([])


def test_check_names():
    check_names("option", ["a", "b"], {"a", "b", "c"})
    with pytest.raises(ConfigurationError, match=r"^unknown option 'tiemout': did you mean 'timeout'\?$"):
        check_names("option", {"timeout": 1, "tiemout": 2}, ("timeout", "retry"))
    with pytest.raises(ConfigurationError, match=r"^unknown option 'zzz': known are retry, timeout$"):
        check_names("option", ["zzz"], ("timeout", "retry"))
    with pytest.raises(ConfigurationError, match="unknown option 'zzz': there are none"):
        check_names("option", ["zzz"], ())
    with pytest.raises(ConfigurationError, match="unknown option 7"):
        check_names("option", [7], ("timeout",))


def test_check_timeout():
    assert check_timeout(None) is None
    assert check_timeout(3) == 3.0
    for bad in (0, -1, math.nan, math.inf, True, "3"):
        with pytest.raises(ConfigurationError, match=r"argument `item_timeout`: "):
            check_timeout(bad, "item_timeout")


def test_check_count():
    assert check_count(3, "buffer") == 3
    for bad in (0, -1, 1.0, True, "3", None):
        with pytest.raises(ConfigurationError, match=r"argument `buffer`: .* give an integer of 1 or more"):
            check_count(bad, "buffer")


def test_check_count_with_a_maximum():
    assert check_count(5, "buffer", maximum=5) == 5
    with pytest.raises(ConfigurationError, match=r"argument `buffer`: 6 is not accepted; give at most 5"):
        check_count(6, "buffer", maximum=5)


def test_check_flag():
    assert check_flag(True, "verify_ssl") is True
    assert check_flag(False, "verify_ssl") is False
    for bad in (0, 1, None, "yes", []):
        with pytest.raises(ConfigurationError, match=r"argument `verify_ssl`: .* give True or False"):
            check_flag(bad, "verify_ssl")


@pytest.mark.parametrize("port", [0, 65536, 99999, -1])
def test_ports_there_are_none_of(port):
    with pytest.raises(ConfigurationError, match="argument `base_url`"):
        resolve("base_url", f"https://h:{port}/")


def test_secret():
    secret = Secret("hunter2")
    assert secret.get() == "hunter2"
    assert "hunter2" not in f"{secret} {secret!r} {[secret]}"
    assert secret == Secret("hunter2") != Secret("other")
    assert secret != "hunter2"
    assert hash(secret) == hash(Secret("hunter2"))
    assert secret and not Secret("")
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        vars(secret)
    assert Secret({"a": "b"}).get() == {"a": "b"}
