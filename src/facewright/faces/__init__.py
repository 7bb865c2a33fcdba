"""Photo → boxes of faces."""
