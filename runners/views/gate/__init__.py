"""The regression gate: two stored runs become a verdict."""
