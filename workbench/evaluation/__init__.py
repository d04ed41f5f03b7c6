"""Scoring of segment tables: official numbers from one table of intersections, in bounded memory."""
