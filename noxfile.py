"""`nox` is what CI runs; `nox -s full` holds what takes long."""

import tomllib
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.reuse_existing_virtualenvs = True

PROJECT = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text(encoding="utf-8"))
COVERAGE = ("--cov=pynector", "--cov-branch", "--cov-report=term-missing:skip-covered", "--cov-fail-under=95")

COLLECTOR = "ddapm-test-agent==1.69.1"


def install(session: nox.Session, group: str) -> None:
    """Install a dependency group and the package. Resolved here: a pip older than 25.1 knows no groups."""
    session.install(*nox.project.dependency_groups(PROJECT, group))
    session.install("-e", ".[sdk,observability,otlp,fast,httpx2,http2,socks,compression,cli]")


def collector(session: nox.Session) -> dict[str, str]:
    """Where the tests find a collector of traces. It has an environment of its own: it pins what we need newer."""
    home = Path(session.virtualenv.location).parent / "collector"
    program = home / "bin" / "ddapm-test-agent"
    if not program.exists():
        session.run("python", "-m", "venv", str(home))
        session.run(str(home / "bin" / "python"), "-m", "pip", "install", "-q", COLLECTOR, external=True)
    return {"PYNECTOR_TEST_COLLECTOR": str(program)}


@nox.session
def lint(session: nox.Session) -> None:
    """The twin is fresh; style and types are right in both trees."""
    install(session, "lint")
    session.run("python", "scripts/generate.py", "--check")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("basedpyright", "--pythonpath", f"{session.bin}/python")


@nox.session
def tests(session: nox.Session) -> None:
    """Every test but the long ones, on asyncio, trio and threads, with the coverage of both trees."""
    install(session, "test")
    # More than there are cores: most tests wait for a socket or a clock.
    session.run("pytest", "-m", "not full", "-n", "3", *COVERAGE, *session.posargs, env=collector(session))


@nox.session
@nox.parametrize(
    ("python", "dependencies"),
    [("3.11", "newest"), ("3.11", "oldest"), ("3.12", "newest"), ("3.13", "newest")],
)
def full(session: nox.Session, dependencies: str) -> None:
    """Everything, the long tests too: every Python that is installed, the newest and the oldest dependencies."""
    install(session, "test")
    if dependencies == "oldest":
        session.install(*(lowest(requirement) for requirement in PROJECT["project"]["dependencies"]))
    session.run("pytest", "-n", "2", *session.posargs, env=collector(session))


@nox.session
@nox.parametrize("telemetry", ["none", "api"])
def core(session: nox.Session, telemetry: str) -> None:
    """All that works without our extras, and with the API of OpenTelemetry alone."""
    session.install(*nox.project.dependency_groups(PROJECT, "test"), "-e", ".")
    if telemetry == "api":
        session.install("opentelemetry-api")
    environment = {"PYNECTOR_TESTS_WITHOUT_EXTRAS": "1"}
    session.run("pytest", "-m", "not full", "-n", "3", *session.posargs, env=environment)


@nox.session
@nox.parametrize("versions", ["oldest", "newest"])
def sdk(session: nox.Session, versions: str) -> None:
    """All that stands on the providers' SDKs, with the oldest and the newest of them."""
    install(session, "test")
    extras = PROJECT["project"]["optional-dependencies"]
    requirements = [*extras["openai"], *extras["anthropic"]]
    session.install("--upgrade", *(map(lowest, requirements) if versions == "oldest" else requirements))
    session.run("pytest", "-n", "2", "-k", "sdk or adapter or provider", *session.posargs)


def lowest(requirement: str) -> str:
    """`name>=1.2,<2` as `name==1.2`."""
    return requirement.partition(",")[0].replace(">=", "==")
