"""Local correlation maps of two registered images that fit no memory."""
