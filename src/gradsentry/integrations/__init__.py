"""Trainers that call gradsentry before they train."""
