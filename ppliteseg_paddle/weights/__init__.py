"""Weight files: reading and writing them safely, whose names they use, downloads and archives."""
