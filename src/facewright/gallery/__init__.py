"""Enrolled faces: a store, the search in it, and the decision who somebody is."""
