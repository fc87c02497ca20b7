"""A tiny stand-in for the package openpi, which cannot be installed here (git, jax, a patched
transformers): modules, names, signatures and conventions as there, contents our own.

What the adapter must get right is as in openpi at commit 15a9616: transforms run on unbatched numpy
dicts in its order; time runs from 1 (noise) to 0 with v = noise - actions; `sample_actions` has no
gradient and `denoise_step` has; the prefix's keys and values are read, not written, by the expert,
which runs in the towers' dtype between float32 action layers; statistics and weights lie where
openpi looks for them. The model is two attention layers per tower with random weights, 8 columns.

The real package takes its place where it is installed: tests/test_openpi_policy.py, last section.
"""
