"""Settings: arguments win over the `config` mapping, that over the environment, that over the defaults."""

import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, Literal, Self, TypeVar, overload
from urllib.parse import urlsplit

from .errors import ConfigurationError

T = TypeVar("T")


class UnsetType(Enum):
    """The type of `UNSET`, for annotations: `float | None | UnsetType`."""

    UNSET = "UNSET"

    def __bool__(self) -> Literal[False]:
        return False

    def __repr__(self) -> str:
        return "UNSET"

    __str__ = __repr__


UNSET: Final = UnsetType.UNSET
"""Nothing was given: the next source of the setting decides. `None` is a value, this is the lack of one."""


class Secret(Generic[T]):
    """A credential, or a value that holds some, which does not show itself in a repr, a log or a traceback.

    Args:
        value: The credential.

    Example:
        >>> Secret("sk-123")
        Secret('REDACTED')
        >>> Secret("sk-123").get()
        'sk-123'
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def get(self) -> T:
        """Return the credential itself."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return bool(self._value == other._value) if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return "Secret('REDACTED')"

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("a Secret cannot be pickled: credentials do not leave the process")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


def check_names(kind: str, given: Iterable[object], known: Collection[str]) -> None:
    """Refuse names that nobody knows, and point to the nearest one.

    Args:
        kind: What the names are, for the text of the error: `option`, `request key`, ...
        given: The names that were given.
        known: The names there are.

    Raises:
        ConfigurationError: For the first unknown name: "unknown option 'tiemout': did you mean 'timeout'?".
    """
    for name in given:
        if name not in known:
            raise ConfigurationError(f"unknown {kind} {_short(name)}: {_advice(name, known)}")


def check_config(config: Mapping[str, object] | None) -> Mapping[str, object]:
    """Check the names in a `config` mapping; its values are checked when they are used.

    Args:
        config: What the user gave as `config=`.

    Returns:
        The mapping itself, or an empty one for `None`.

    Raises:
        ConfigurationError: It is not a mapping, or has an unknown key.
    """
    if config is None:
        return {}
    if not isinstance(config, Mapping):
        raise ConfigurationError(f"argument `config`: expected a mapping, got {type(config).__name__}")
    check_names("config key", config, SETTINGS)
    return config


def check_timeout(value: float | None, name: str = "timeout") -> float | None:
    """Return a time-out given as an argument, checked.

    Args:
        value: Seconds above 0, or `None` for no limit.
        name: The name of the argument, for the text of an error.

    Raises:
        ConfigurationError: It is something else.
    """
    _checked(SETTINGS["timeout"], value, f"argument `{name}`", parse=False)
    return None if value is None else float(value)


def check_count(value: int, name: str, *, maximum: int | None = None) -> int:
    """Return a number of things given as an argument, checked.

    Args:
        value: An integer of 1 or more.
        name: The name of the argument, for the text of an error.
        maximum: The most it may be; None for no limit.

    Raises:
        ConfigurationError: It is something else.
    """
    _checked(SETTINGS["max_concurrency"], value, f"argument `{name}`", parse=False)
    if maximum is not None and value > maximum:
        raise ConfigurationError(f"argument `{name}`: {_short(value)} is not accepted; give at most {maximum}")
    return value


def check_flag(value: bool, name: str) -> bool:
    """Return a switch given as an argument, checked.

    Args:
        value: True or False, and nothing that merely counts as one of them.
        name: The name of the argument, for the text of an error.

    Raises:
        ConfigurationError: It is something else.
    """
    if not isinstance(value, bool):
        raise ConfigurationError(f"argument `{name}`: {_short(value)} is not accepted; give True or False")
    return value


def _advice(name: object, known: Collection[str]) -> str:
    import difflib

    near = difflib.get_close_matches(str(name).lower(), known, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"known are {', '.join(sorted(known))}" if known else "there are none"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class _BadValue(ValueError):
    """Raised by the checks below, with advice if there is any; `resolve` adds where the value came from."""


def _seconds_or_none(value: object) -> float | None:
    if value is None or (isinstance(value, str) and value.strip().lower() == "none"):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _BadValue
    seconds = float(value)
    if not 0 < seconds < math.inf:
        raise _BadValue
    return seconds


def _integer(minimum: int) -> Callable[[object], int]:
    def check(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise _BadValue
        number = int(value)
        if number < minimum:
            raise _BadValue
        return number

    return check


def _one_of(*names: str) -> Callable[[object], str]:
    def check(value: object) -> str:
        if value not in names:
            import difflib

            near = difflib.get_close_matches(str(value).lower(), names, n=1)
            raise _BadValue(f"; did you mean {near[0]!r}?" if near else "")
        return str(value)

    return check


def _base_url(value: object) -> str:
    if not isinstance(value, str):
        raise _BadValue
    if value:
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or "?" in value or "#" in value:
            raise _BadValue
        # `port` raises ValueError for one that is no number, or above 65535.
        if parts.port == 0:
            raise _BadValue
    return value


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting of the library that the environment can set.

    Attributes:
        variable: The environment variable.
        default: The value when nobody says otherwise.
        check: Returns the value in its own type, or raises `ValueError`.
        accepts: What is accepted, for the text of an error.
        secret: Whether a bad value must not be shown.
        argument: What the argument is called, if not as the setting is.
    """

    variable: str
    default: object
    check: Callable[[object], object]
    accepts: str
    secret: bool = False
    argument: str = ""


SETTINGS: Final[Mapping[str, Setting]] = {
    "timeout": Setting("PYNECTOR_TIMEOUT", None, _seconds_or_none, "seconds above 0, or none for no limit"),
    "max_retries": Setting("PYNECTOR_MAX_RETRIES", 3, _integer(0), "an integer of 0 or more"),
    "max_concurrency": Setting("PYNECTOR_MAX_CONCURRENCY", 10, _integer(1), "an integer of 1 or more"),
    "batch_item_spans": Setting("PYNECTOR_BATCH_ITEM_SPANS", 100, _integer(0), "an integer of 0 or more"),
    "batch_attempt_spans": Setting("PYNECTOR_BATCH_ATTEMPT_SPANS", 10_000, _integer(0), "an integer of 0 or more"),
    "http_engine": Setting(
        "PYNECTOR_HTTP_ENGINE",
        "httpx",
        _one_of("httpx", "httpx2", "pyreqwest"),
        "httpx, httpx2 or pyreqwest",
        argument="engine",
    ),
    "base_url": Setting(
        "PYNECTOR_BASE_URL",
        "",
        _base_url,
        "a URL with http:// or https:// and a host, without a query or a fragment",
        True,
    ),
}


@overload
def resolve(
    name: Literal["timeout"],
    *values: float | UnsetType | None,
    config: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> float | None: ...
@overload
def resolve(
    name: Literal["max_retries", "max_concurrency", "batch_item_spans", "batch_attempt_spans"],
    *values: int | UnsetType,
    config: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> int: ...
@overload
def resolve(
    name: Literal["http_engine", "base_url"],
    *values: str | UnsetType,
    config: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> str: ...
def resolve(
    name: str,
    *values: object,
    config: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
) -> object:
    """Find the value of a setting, checked.

    Args:
        name: One of `SETTINGS`.
        *values: Arguments, the strongest first (call, client, transport); `UNSET` ones do not count.
        config: The `config` mapping of the client.
        environ: The environment, `os.environ` by default; an empty variable does not count.

    Returns:
        The first value there is: of an argument, of `config`, of the environment, else the default.

    Raises:
        ConfigurationError: That value is not accepted. The text names its source and what is accepted.

    Example:
        >>> resolve("max_retries", UNSET, UNSET, config={"max_retries": 5})
        5
    """
    setting = SETTINGS[name]
    for value in values:
        if value is not UNSET:
            # An argument has a type; only text from outside (environment, files) is parsed.
            source = f"argument `{setting.argument or name}`"
            return _checked(setting, value, source, parse=isinstance(setting.default, str))
    if config is not None:
        value = config.get(name, UNSET)
        if value is not UNSET:
            return _checked(setting, value, f'config["{name}"]', parse=isinstance(setting.default, str))
    text = (os.environ if environ is None else environ).get(setting.variable)
    if text is not None and text.strip():
        return _checked(setting, text.strip(), f"variable `{setting.variable}`", parse=True)
    return setting.default


def _checked(setting: Setting, value: object, source: str, *, parse: bool) -> object:
    try:
        if not parse and isinstance(value, str):
            raise _BadValue
        return setting.check(value)
    except (ValueError, OverflowError) as error:
        shown = "this value" if setting.secret else _short(value)
        advice = str(error) if isinstance(error, _BadValue) else ""
        raise ConfigurationError(f"{source}: {shown} is not accepted; give {setting.accepts}{advice}") from None
