"""Transformers from neurons and astrocytes: the science behind the book's chapters."""
