"""The simulated robot: a MuJoCo world, painted cameras, scripted demonstrations."""
