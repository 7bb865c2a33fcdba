"""Photo → boxes of faces → points → chips → vectors."""
