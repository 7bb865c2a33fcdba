"""Films and cameras: decoding, tracks of faces, outputs."""
