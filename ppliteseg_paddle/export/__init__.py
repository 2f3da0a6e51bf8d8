"""From a trained model to a folder for deployment: copy it, convert the copy, compare, describe."""
