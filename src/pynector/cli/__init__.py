"""The `pynector` command. It needs the extra `cli`, and says so without it."""

import sys

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 + SIGINT, as shells have it."""

_EXTRA = ("click", "rich", "tqdm")


def main() -> None:
    """Run the command line and exit: 0 if all went well, 1 if not, 2 for a wrong call, 130 after Ctrl-C."""
    try:
        # Imported here, so that a missing extra is one line of advice, and Ctrl-C while loading is no traceback.
        from .commands import pynector

        pynector(prog_name="pynector")
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write("pynector needs the extra: pip install 'pynector[cli]'\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
