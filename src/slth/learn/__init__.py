"""The training side: targets to find tickets for."""
