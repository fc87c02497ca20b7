"""What a robot and a policy server say to each other (docs/remote.md). Neither knows the other."""
