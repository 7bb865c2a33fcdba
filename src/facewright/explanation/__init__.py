"""Explanations of a network's answers: the image regions that support a class, or that make two faces similar."""
