"""What `rt.launch` does: options, supervisor, the children in order, status line, summary."""
