"""Photo → boxes of faces → points → aligned face crops → vectors."""
