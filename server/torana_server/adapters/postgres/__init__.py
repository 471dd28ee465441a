"""The journal on PostgreSQL, for several replicas."""
