"""`python -m pynector` is the `pynector` command."""

from .cli import main

if __name__ == "__main__":
    main()
