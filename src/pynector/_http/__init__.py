"""HTTP without I/O: what of a message goes on the wire, and what of an answer comes back."""
