"""What other thresholds would have given, from what a run keeps: numbers, and runs made of them."""
