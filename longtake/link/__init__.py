"""Generated code of the link between engine and workers lies below; this package imports nothing."""
