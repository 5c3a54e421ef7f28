"""Generated code of the link between engine and workers."""
