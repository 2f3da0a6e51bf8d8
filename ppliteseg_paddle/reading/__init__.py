"""The one reader each for images, labels and lists, and the label sets and palettes that give labels their names and
colors."""
