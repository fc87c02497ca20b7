"""A running session for the eye: in a terminal, or drawn into a file."""
