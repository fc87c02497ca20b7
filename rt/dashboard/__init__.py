"""A running session for the eye: as text, live in a terminal, or drawn into a file."""
