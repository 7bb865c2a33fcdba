"""The command line: one module a command group; what is heavy is imported inside the commands."""
