"""Every mode side by side over the delay: `python -m rt.compare`, described in docs/compare.md."""
