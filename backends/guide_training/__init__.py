"""Training of the guide, the small model that ships with TabAgent (not part of any wheel)."""
