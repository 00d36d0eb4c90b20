"""Texts as data: prompt templates and field labels, loaded by one function and versioned by content hash."""
