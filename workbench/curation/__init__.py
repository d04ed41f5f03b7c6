"""Data sets brought in and looked after: downloaded, unpacked, added to the catalog, checked, summed up."""
