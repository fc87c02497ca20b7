"""A session's figures for Prometheus, served by its launch."""
