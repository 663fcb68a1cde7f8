"""`nox` is what CI runs; `nox -s full` holds what takes long."""

import tomllib
from pathlib import Path

import nox

nox.options.sessions = ["lint", "tests"]
nox.options.reuse_existing_virtualenvs = True

PROJECT = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text(encoding="utf-8"))
COVERAGE = ("--cov=pynector", "--cov-branch", "--cov-report=term-missing:skip-covered", "--cov-fail-under=95")


def install(session: nox.Session, group: str) -> None:
    """Install a dependency group and the package. Resolved here: a pip older than 25.1 knows no groups."""
    session.install(*nox.project.dependency_groups(PROJECT, group))
    session.install("-e", ".[cli,compression]")


@nox.session
def lint(session: nox.Session) -> None:
    """The twin is fresh; style and types are right in both trees."""
    install(session, "lint")
    session.run("python", "scripts/generate.py", "--check")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("basedpyright")


@nox.session
def tests(session: nox.Session) -> None:
    """Every test but the long ones, on asyncio, trio and threads, with the coverage of both trees."""
    install(session, "test")
    session.run("pytest", "-m", "not full", "-n", "2", *COVERAGE, *session.posargs)


@nox.session(python=["3.11", "3.12", "3.13"])
def full(session: nox.Session) -> None:
    """Everything, the long tests too, on every supported Python that is installed."""
    install(session, "test")
    session.run("pytest", "-n", "2", *session.posargs)


@nox.session
def oldest(session: nox.Session) -> None:
    """The tests with the oldest dependencies that are allowed."""
    install(session, "test")
    session.install(
        *(requirement.replace(">=", "==").split(",")[0] for requirement in PROJECT["project"]["dependencies"])
    )
    session.run("pytest", "-m", "not full", "-n", "2", *session.posargs)
