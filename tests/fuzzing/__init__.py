"""Parsers of our own, fed with what almost is what they read: `parsers` has the table, `mutations` the changes."""
