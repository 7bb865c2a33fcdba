"""The jobs end to end, one file a job: open → split → train → evaluate → report; compare; predict; verify."""
