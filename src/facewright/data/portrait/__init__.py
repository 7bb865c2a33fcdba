"""Synthetic faces: who they are, how they stand, and the drawing of them, at any size."""
