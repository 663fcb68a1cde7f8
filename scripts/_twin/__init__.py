"""The parts of `scripts/generate.py`: what is renamed, how text and code are converted, what is refused."""
