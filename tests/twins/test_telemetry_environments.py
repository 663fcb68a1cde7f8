"""The example of the first page, as it stands there, whatever is installed: the same lines, and no more is loaded."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from pynector.testing import LocalServer

# All of it is there, and what an environment lacks is hidden.
pytestmark = pytest.mark.needs("opentelemetry", "structlog")

OTEL, SDK, STRUCTLOG = "opentelemetry", "opentelemetry.sdk", "structlog"

EXAMPLE = """
from pynector.telemetry import get_telemetry, configure_telemetry

# Configure telemetry (optional)
configure_telemetry(service_name="my-service")

# Get tracer and logger
tracer, logger = get_telemetry("my_component")

# Use the logger
logger.info("Operation started", operation="process_data")

# Use the tracer
with tracer.start_as_current_span("process_data") as span:
    span.set_attribute("data.size", 100)
    logger.info("Processing data", items=100)
"""

HIDE = """
import importlib.abc, json, sys
HIDDEN = tuple(sys.argv[1].split())

def is_hidden(name):
    return any(name == each or name.startswith(each + ".") for each in HIDDEN)

class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if is_hidden(name):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hide())
"""

REPORT = """
print(json.dumps({
    "trace_id": span.trace_id,
    "hidden_but_loaded": sorted(filter(is_hidden, sys.modules)),
    "loaded": sorted({"opentelemetry.trace", "opentelemetry.sdk", "structlog"} & set(sys.modules)),
}))
"""


@dataclass(frozen=True)
class Environment:
    """What is installed and set, and what the example does there.

    Attributes:
        hidden: Packages that can't be imported.
        variables: Of the environment.
        traced: Whether its span has an id.
        loaded: What is imported in the end.
        complaints: The lines on stderr that are not of the example.
    """

    hidden: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)
    traced: bool = False
    loaded: tuple[str, ...] = ()
    complaints: int = 0


API, FULL = "opentelemetry.trace", ("opentelemetry.sdk", "opentelemetry.trace", "structlog")
ENVIRONMENTS = {
    "nothing": Environment((OTEL, STRUCTLOG)),
    "api": Environment((SDK, "opentelemetry.exporter", STRUCTLOG), loaded=(API,)),
    "api and sdk": Environment((STRUCTLOG,), traced=True, loaded=(SDK, API)),
    "structlog": Environment((OTEL,), loaded=(STRUCTLOG,)),
    "everything": Environment(traced=True, loaded=FULL),
    "disabled": Environment(variables={"OTEL_SDK_DISABLED": "true"}, loaded=(API, STRUCTLOG)),
    "broken propagators": Environment(
        variables={"OTEL_PROPAGATORS": "no-such-propagator"}, traced=True, loaded=FULL, complaints=1
    ),
}
each_environment = pytest.mark.parametrize("name", ENVIRONMENTS)


def run(code: str, environment: Environment, *arguments: str) -> tuple[list[str], list[str]]:
    """Run code where some packages are not installed, and return the lines on stdout and on stderr."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "PYNECTOR_"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", HIDE + code, " ".join(environment.hidden), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**kept, "NO_COLOR": "1", **environment.variables},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()


def fields(line: str) -> dict[str, str]:
    """The fields of a line for people."""
    return dict(re.findall(r"(\w+)=(\S+)", line))


@each_environment
def test_the_example_runs_unchanged(name: str) -> None:
    environment = ENVIRONMENTS[name]
    (report,), lines = run(EXAMPLE + REPORT, environment)
    found = json.loads(report)
    assert found["hidden_but_loaded"] == []
    assert found["loaded"] == sorted(environment.loaded)
    trace_id = found["trace_id"]
    assert (trace_id is not None) == environment.traced

    complaints, (first, second) = lines[:-2], lines[-2:]
    assert len(complaints) == environment.complaints
    assert all("telemetry.unusable" in line for line in complaints)
    pattern = r"[\dT:.-]+Z \[info +\] (Operation started|Processing data) +\[pynector.my_component\]"
    assert [re.match(pattern, line)[1] for line in (first, second)] == ["Operation started", "Processing data"]
    assert fields(first) == {"operation": "process_data"}
    ids = fields(second)
    assert ids.pop("items") == "100"
    assert ids.pop("trace_id", None) == trace_id
    assert (ids.pop("span_id", None) is not None) == environment.traced
    assert ids == {}


@each_environment
def test_lines_for_programs(name: str) -> None:
    environment = ENVIRONMENTS[name]
    example = EXAMPLE.replace('service_name="my-service"', 'log_format="json"')
    (report,), lines = run(example + REPORT, environment)
    first, second = map(json.loads, lines[-2:])
    trace_id = json.loads(report)["trace_id"]
    first.pop("timestamp"), second.pop("timestamp")
    assert first == {
        "event": "Operation started",
        "operation": "process_data",
        "level": "info",
        "logger": "pynector.my_component",
    }
    assert second.get("trace_id") == trace_id
    assert second.keys() - {"trace_id", "span_id"} == {"event", "items", "level", "logger"}


REQUESTS = """
import anyio
from pynector import AsyncPynector, Pynector

async def main():
    async with AsyncPynector(base_url=sys.argv[2]) as client:
        print((await client.get("/echo")).status_code, len(await client.batch_request(["/echo"] * 3)))

anyio.run(main)
with Pynector(base_url=sys.argv[2]) as client:
    print(client.get("/echo").status_code, len(client.batch_request(["/echo"] * 3)))
print([name for name in sys.modules if is_hidden(name)])
"""


@each_environment
def test_requests_go_through(name: str, server: LocalServer) -> None:
    code = REQUESTS.replace('["/echo"] * 3', '[{"path": "/echo"}] * 3')
    out, errors = run(code, ENVIRONMENTS[name], server.url)
    assert out == ["200 3", "200 3", "[]"]
    # Nobody has asked for log lines.
    assert errors == []


NOTHING_YET = """
import pynector, pynector.telemetry
from pynector import AsyncPynector, Pynector

Pynector(base_url="http://h"), AsyncPynector(base_url="http://h")
tracer, logger = pynector.telemetry.get_telemetry("part")
logger.info("nobody listens")
print([name for name in sys.modules if name.partition(".")[0] in ("opentelemetry", "structlog")])
"""


def test_nothing_is_loaded_before_it_is_needed() -> None:
    assert run(NOTHING_YET, Environment()) == (["[]"], [])


def test_the_blocking_module_loads_no_event_loop() -> None:
    code = "from pynector.telemetry.sync import *; print(sorted({'anyio', 'asyncio', 'trio'} & set(sys.modules)))"
    assert run(code, Environment()) == (["[]"], [])


@pytest.mark.parametrize(
    ("hidden", "exporter", "package"),
    [
        ((OTEL,), "console", "pip install 'pynector[observability]'"),
        ((SDK, "opentelemetry.exporter"), "console", "pip install 'pynector[observability]'"),
        ((SDK, "opentelemetry.exporter"), "otlp", "pip install 'pynector[observability,otlp]'"),
        (("opentelemetry.exporter",), "otlp", "pip install 'pynector[otlp]'"),
    ],
)
def test_an_exporter_that_was_asked_for_and_is_not_installed(
    hidden: tuple[str, ...], exporter: str, package: str
) -> None:
    code = f"""
from pynector.errors import ConfigurationError
from pynector.telemetry import configure_telemetry
try:
    configure_telemetry(trace_exporters={exporter!r})
except ConfigurationError as exc:
    print(exc)
"""
    (line,), errors = run(code, Environment(hidden))
    assert line.endswith(package)
    assert errors == []


def test_an_exporter_of_the_environment_that_is_not_installed_stops_nobody() -> None:
    hidden = ("opentelemetry.exporter",)
    out, errors = run(EXAMPLE, Environment(hidden, {"OTEL_TRACES_EXPORTER": "otlp"}))
    assert out == []
    assert ["telemetry.unusable" in line for line in errors] == [True, False, False]
    assert "pip install 'pynector[otlp]'" in errors[0]


def test_the_environment_names_exporter_resource_and_level() -> None:
    variables = {
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_SERVICE_NAME": "of-the-environment",
        "OTEL_RESOURCE_ATTRIBUTES": "team=blue",
        "OTEL_LOG_LEVEL": "warn",
    }
    out, errors = run(EXAMPLE.replace('service_name="my-service"', ""), Environment(variables=variables))
    assert errors == []
    shown = json.loads("\n".join(out))
    assert shown["name"] == "process_data"
    assert shown["attributes"] == {"data.size": 100}
    resource = shown["resource"]["attributes"]
    assert (resource["service.name"], resource["team"]) == ("of-the-environment", "blue")


def test_arguments_win_over_the_environment() -> None:
    variables = {"OTEL_TRACES_EXPORTER": "none", "OTEL_SERVICE_NAME": "of-the-environment", "OTEL_LOG_LEVEL": "error"}
    given = 'service_name="given", resource_attributes={"team": "red"}, log_level="debug", trace_exporters="console"'
    code = EXAMPLE.replace('service_name="my-service"', given)
    out, errors = run(code, Environment(variables=variables))
    assert len(errors) == 2
    resource = json.loads("\n".join(out))["resource"]["attributes"]
    assert (resource["service.name"], resource["team"]) == ("given", "red")
