"""Our numbers against those of the official tools that are installed, and the list of where those surprise."""
