"""Stand-ins for other processes, each behind the real channel."""
