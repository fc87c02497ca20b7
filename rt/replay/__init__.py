"""A recording, afterwards: what was in it, and what another policy or mode would have sent."""
