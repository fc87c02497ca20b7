"""The policies that come with the package. A module here registers the type of its own name."""
