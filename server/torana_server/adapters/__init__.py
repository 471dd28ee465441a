"""One driver each: what implements the ports."""
