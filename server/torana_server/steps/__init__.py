"""Step types and the runner that executes attempts."""
