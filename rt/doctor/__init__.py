"""`python -m rt.doctor`: what this machine has of what a robot needs, and what mends the rest."""
