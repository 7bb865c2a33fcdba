"""The HTTP API and the web page. Needs the extra `serve`; entered by `facewright serve` alone."""
