"""Enrolled faces: a store, the search in it, and the identification of a person."""
