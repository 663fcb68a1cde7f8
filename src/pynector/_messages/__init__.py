"""Message formats, without any I/O: what goes over the wire and how it is read back."""
