"""The built-in resource types, one a file. They register like any other."""
