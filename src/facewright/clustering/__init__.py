"""Faces of unknown people, sorted into clusters of one person each."""
