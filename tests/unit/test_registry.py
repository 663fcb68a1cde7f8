"""Third parties join through entry points; public modules list what they have."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import pynector
from pynector import errors
from pynector.transport import TransportFactoryRegistry

PUBLIC = ["pynector", "pynector.errors", "pynector.transport", "pynector.transport.http", "pynector.transport.message"]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of somebody else, as pip leaves it behind."""
    (tmp_path / "other_transport.py").write_text(
        "class Factory:\n"
        "    def create_transport(self, **options):\n"
        "        return ('transport', options)\n"
        "ready = Factory()\n"
    )
    info = tmp_path / "other_transport-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other-transport\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[pynector.transports.sync]\nother = other_transport:Factory\nready = other_transport:ready\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("name", ["other", "ready"])
def test_entry_points_are_found_and_loaded(installed: None, name: str) -> None:
    registry: TransportFactoryRegistry[object] = TransportFactoryRegistry(group="pynector.transports.sync")
    assert registry.names() == ("other", "ready")
    assert registry.create_transport(name, a=1) == ("transport", {"a": 1})
    assert registry.get(name) is registry.get(name)
    with pytest.raises(errors.ConfigurationError, match="did you mean 'other'"):
        registry.get("othre")
    assert TransportFactoryRegistry[object](group="pynector.transports.async").names() == ()


def test_a_registered_factory_wins(installed: None) -> None:
    class Own:
        def create_transport(self, **options: object) -> str:
            return "own"

    registry: TransportFactoryRegistry[object] = TransportFactoryRegistry(group="pynector.transports.sync")
    registry.register("other", Own())
    assert registry.create_transport("other") == "own"
    with pytest.raises(errors.ConfigurationError, match="not empty"):
        registry.register("", Own())


@pytest.mark.parametrize("name", PUBLIC)
def test_public_modules_list_what_they_have(name: str) -> None:
    module = importlib.import_module(name)
    assert sorted(module.__all__) == sorted(set(module.__all__))
    for public in module.__all__:
        assert getattr(module, public) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        module.no_such_name  # noqa: B018


def test_the_front_door_is_lazy_and_complete() -> None:
    assert set(pynector.__all__) <= set(dir(pynector))
    code = "from pynector import *; print(*(each.__name__ for each in (Pynector, AsyncPynector, RetryPolicy, errors)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Pynector", "AsyncPynector", "RetryPolicy", "pynector.errors"]


def test_progress_without_tqdm() -> None:
    code = (
        "import sys; sys.modules['tqdm'] = sys.modules['tqdm.auto'] = None\n"
        "from pynector import Pynector, errors\n"
        "try:\n"
        "    Pynector(base_url='http://localhost').batch_request([{'path': '/'}], progress=True)\n"
        "except errors.ConfigurationError as exc:\n"
        "    print(exc)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'pynector[cli]'" in done.stdout
