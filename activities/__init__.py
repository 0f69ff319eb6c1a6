"""Activities: thin edges between workflows and the plain objects that do the work."""
