"""HTTP at speed: ours and others against one nginx, each measurement in a process of its own."""
