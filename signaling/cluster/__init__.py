"""Many machines over one Redis: who lives, who has which room, and what is known of it."""
