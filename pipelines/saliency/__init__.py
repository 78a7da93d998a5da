"""Where in an image an encoder finds what it answers: maps over the pixels that it was shown."""
