"""Writes docs/parity.md from the ledger: `python -m tests.parity_document > docs/parity.md`."""

from workbench.parity.ledger import document

if __name__ == "__main__":
    print(document(), end="")
