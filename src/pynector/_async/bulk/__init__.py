"""Many requests at once: an input of any length in, one outcome for each item out.

`source` reads the input, `crew` is the workers, `job` makes an item's outcome. On these stand the two ways to use
them: `run` hands outcomes out as they come, `batch` keeps them all.
"""
