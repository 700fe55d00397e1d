"""What the theorems ask of a person's own network, what it breaks of them, and about what finding it would take."""
