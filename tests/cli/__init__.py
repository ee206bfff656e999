"""The verbs as users type them."""
