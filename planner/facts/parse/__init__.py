"""Pure parsers: text that a node printed in, typed facts out. Versions stay as they were written."""
