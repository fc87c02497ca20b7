"""The policies that come with the package: a module or package of the name of its type."""
