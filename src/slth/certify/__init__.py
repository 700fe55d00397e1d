"""Stage 8: how far a ticket is from its target: proved over a domain, and found by search. Trusts no earlier stage."""
