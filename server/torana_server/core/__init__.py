"""What everything else stands on: errors, clock, ids, values, limits. Standard library only."""
