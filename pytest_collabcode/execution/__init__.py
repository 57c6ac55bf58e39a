"""Generated programs run here and nowhere else, inside kernel isolation."""
