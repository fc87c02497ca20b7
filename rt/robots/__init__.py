"""Robots: the Protocol that control speaks, and one folder per robot or backend."""
