"""In memory: journal and secrets that do not survive the process."""
