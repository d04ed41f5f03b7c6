"""What every writer of files needs: one holder at a time, replaced as a whole or not at all, digests, the cache."""
