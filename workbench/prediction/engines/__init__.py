"""Ways to spread a prediction over threads, processes and machines; each gives the same rows in the same order."""
