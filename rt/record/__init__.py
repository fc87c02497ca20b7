"""A session as a file: written beside it, and read back. An MCAP file, which others open too."""
