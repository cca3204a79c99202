"""Data sets of images with texts: captions, and questions about images."""
