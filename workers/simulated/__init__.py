"""Workers whose device is arithmetic, known beforehand; it imports the words of workers, images and the core."""
