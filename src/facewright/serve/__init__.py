"""The HTTP API and the web page. Needs the extra `serve`; loaded by `facewright serve` only."""
