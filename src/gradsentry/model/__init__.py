"""Token ids -> gradient factors and the surprise of every token."""
