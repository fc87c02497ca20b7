"""Real cameras: one process each, from a device, a video file or the fake robot's view
(docs/cameras.md)."""
