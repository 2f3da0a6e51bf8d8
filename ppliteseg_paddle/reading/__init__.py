"""The one reader each for images, labels and lists, and the label sets and palettes that give labels names and
colors.

Neither paddle nor paddleseg is imported here: `deploy` reads with it, and so do the worker processes of data checks.
"""
